"""A beginner's PyTorch tutorial, every snippet in its order, as its author wrote it.

    python -m flambeau run examples/tutorial.py        # on Flambeau
    python examples/tutorial.py                        # on PyTorch, if it is installed

Both print the same: the seed makes the random numbers agree.  The fitted line is saved to examples/output/tutorial.png.
"""

import os
import matplotlib

matplotlib.use("Agg")       # a picture instead of a window
PICTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "output", "tutorial.png")


def section(title):
    print(f"\n{title}\n{'-' * len(title)}")


section("2.2 Creating Tensors")

import torch

torch.manual_seed(42)

# 1. Create directly from data
x = torch.tensor([1, 2, 3])
print(x)  # tensor([1, 2, 3])

# 2. Create all-zero/all-one tensors
zeros = torch.zeros(2, 3)  # 2 rows, 3 columns, all zeros
ones = torch.ones(2, 3)  # 2 rows, 3 columns, all ones
print(zeros, ones)

# 3. Create random tensors (normal distribution)
random = torch.randn(2, 3)  # Standard normal distribution (mean 0, variance 1)
print(random)

# 4. Convert from/to NumPy arrays
import numpy as np
arr = np.array([[1, 2], [3, 4]])
tensor_from_np = torch.from_numpy(arr)
np_from_tensor = tensor_from_np.numpy()


section("2.3 Basic Tensor Operations")

# 1. Shape operations
x = torch.tensor([[1, 2], [3, 4]])
print(x.shape)  # torch.Size([2, 2])
x_reshaped = x.view(4, 1)  # Reshape to 4 rows, 1 column (-1 infers dimension)
print(x_reshaped)

# 2. Arithmetic operations
a = torch.tensor([1, 2, 3])
b = torch.tensor([4, 5, 6])
print(a + b)  # Element-wise addition: tensor([5, 7, 9])
print(a * b)  # Element-wise multiplication: tensor([4, 10, 18])
print(torch.matmul(a, b))  # Matrix multiplication (dot product): 1*4 + 2*5 + 3*6 = 32

y = b  # (the tutorial has no y yet, and moves one on the next lines where there is a GPU)
# 3. Device conversion (CPU/GPU)
if torch.cuda.is_available():
    x = x.to('cuda')  # Move to GPU
    y = y.to('cuda')


section("3. Automatic Differentiation: The Core of PyTorch")

# Define tensors that require gradient calculation
x = torch.tensor(2.0, requires_grad=True)  # Initial value 2.0, requires gradient
y = x ** 2 + 3 * x - 5  # Define function y = x² + 3x -5

# Compute gradients (call backward())
y.backward()  # Backpropagation to compute gradients for all tensors with requires_grad=True

# View gradient: x.grad stores dy/dx
print(x.grad)  # Output: 7.0 (since dy/dx = 2x + 3, substituting x=2 gives 7)


section("4.2 Defining a Simple Network")

import torch.nn as nn

# Define a simple 2-layer neural network
class SimpleNet(nn.Module):
    def __init__(self):
        super(SimpleNet, self).__init__()
        # First layer: input layer (20) → hidden layer (10), using ReLU activation
        self.fc1 = nn.Linear(20, 10)
        self.relu = nn.ReLU()
        # Second layer: hidden layer (10) → output layer (1)
        self.fc2 = nn.Linear(10, 1)

    def forward(self, x):
        # Forward pass: x → fc1 → ReLU → fc2
        x = self.fc1(x)
        x = self.relu(x)
        x = self.fc2(x)
        return x

# Instantiate the model
model = SimpleNet()
print(model)

# Test forward pass
x_test = torch.randn(1, 20)  # Input: 1 sample, 20 features
output = model(x_test)
print(output.shape)  # Output: torch.Size([1, 1])


section("4.3 Composing Networks with nn.Sequential")

model = nn.Sequential(
    nn.Linear(20, 10),
    nn.ReLU(),
    nn.Linear(10, 5),
    nn.Sigmoid(),
    nn.Linear(5, 1)
)
print(model)


section("5. Practical: Training a Linear Regression Model")

# 5.1 Preparing Data
import torch
import numpy as np
import matplotlib.pyplot as plt

# Generate simulated data: y = 2x + 3 + 0.5*noise
np.random.seed(42)
x = np.random.rand(100, 1)  # 100 samples, 1 feature
y = 2 * x + 3 + 0.5 * np.random.randn(100, 1)  # Add noise

# Convert to PyTorch tensors
x_tensor = torch.FloatTensor(x)
y_tensor = torch.FloatTensor(y)

# 5.2 Defining Model, Loss Function, and Optimizer
# 1. Define model: Linear regression with one fully connected layer
model = nn.Linear(in_features=1, out_features=1)  # Input: 1D, Output: 1D

# 2. Define loss function: Mean Squared Error (MSE)
criterion = nn.MSELoss()

# 3. Define optimizer: Stochastic Gradient Descent (SGD), learning rate 0.01
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

# 5.3 Training the Model
epochs = 1000  # Number of training iterations
for epoch in range(epochs):
    # Forward pass: compute predictions
    y_pred = model(x_tensor)

    # Calculate loss
    loss = criterion(y_pred, y_tensor)

    # Backward pass + parameter update
    optimizer.zero_grad()  # Clear gradients (avoid accumulation)
    loss.backward()  # Backpropagation to compute gradients
    optimizer.step()  # Update parameters (W and b)

    # Print training progress
    if (epoch + 1) % 100 == 0:
        print(f'Epoch [{epoch+1}/{epochs}], Loss: {loss.item():.4f}')

# After training, model parameters should approximate true values W=2, b=3
print("Model parameters:")
print("W =", model.weight.item())  # Close to 2
print("b =", model.bias.item())  # Close to 3


section("5.4 Visualizing Results")


def save_picture():
    os.makedirs(os.path.dirname(PICTURE), exist_ok=True)
    plt.savefig(PICTURE, dpi=120)
    print("The fitted line:", os.path.relpath(PICTURE))


plt.show = save_picture

# Plot the fitted line
plt.scatter(x, y, label='True data')
plt.plot(x, model(x_tensor).detach().numpy(), 'r', label='Fitted line')
plt.legend()
plt.show()
