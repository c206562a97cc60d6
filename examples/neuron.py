"""A sigmoid neuron: the derivative as code, and its values at one point.

The ten lines under `# backward` are those of the textbook, one for each adjoint:

    python examples/neuron.py
"""

from flatgrad import grad, sigmoid


@grad
def f(w0, x0, w1, x1, w2):
    s0 = w0 * x0
    s1 = w1 * x1
    s2 = s0 + s1
    s3 = s2 + w2
    L = sigmoid(s3)
    return L


if __name__ == "__main__":
    point = (2, -1, -3, -2, -3)
    gradients = f(*point)

    print(f.source())
    print(f"f{point} = {f.primal(*point):.4f}\n")
    for name, value in gradients._asdict().items():
        print(f"grad_{name} = {value:7.4f}")
