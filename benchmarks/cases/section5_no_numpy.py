"""The same regression with its data made by torch: a program that needs no NumPy."""
import torch
import torch.nn as nn

torch.manual_seed(42)
x = torch.rand(100, 1)
y = 2 * x + 3 + 0.5 * torch.randn(100, 1)
x_tensor, y_tensor = x, y

model = nn.Linear(in_features=1, out_features=1)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

epochs = 1000
for epoch in range(epochs):
    y_pred = model(x_tensor)
    loss = criterion(y_pred, y_tensor)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (epoch + 1) % 100 == 0:
        print(f'Epoch [{epoch+1}/{epochs}], Loss: {loss.item():.4f}')
print("W =", model.weight.item())
print("b =", model.bias.item())
