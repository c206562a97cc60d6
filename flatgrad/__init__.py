"""flatgrad: source-to-source gradients of ordinary NumPy code.

    from flatgrad import grad, sigmoid

    @grad
    def f(w, x): return sigmoid(w * x)

    print(f.source())
"""

from typing import TYPE_CHECKING, Any

from flatgrad._version import VERSION as __version__

if TYPE_CHECKING:
    from flatgrad import optim
    from flatgrad.activations import (
        elu,
        gelu,
        leaky_relu,
        log_softmax,
        logsumexp,
        relu,
        sigmoid,
        silu,
        softmax,
        softplus,
    )
    from flatgrad.api import grad, value_and_grad
    from flatgrad.checkpointing import checkpoint
    from flatgrad.errors import (
        ArgumentError,
        FlatgradError,
        InternalError,
        NameResolutionError,
        ShapeError,
        SourceError,
        StaticValueError,
        TypeInferenceError,
        UnsupportedError,
    )
    from flatgrad.hooks import adjoint, custom_vjp, stop_gradient
    from flatgrad.into import release_workspace
    from flatgrad.modes import (
        hessian,
        hvp,
        jacfwd,
        jacobian,
        jacrev,
        jvp,
        linearize,
        value_and_jacobian,
        vjp,
    )
    from flatgrad.primitives.custom import defjvp, defvjp
    from flatgrad.sparse import sparse_jacobian, value_and_sparse_jacobian
    from flatgrad.testing import check_grads

_HOMES = {
    "api": ("grad", "value_and_grad"),
    "activations": (
        "elu", "gelu", "leaky_relu", "log_softmax", "logsumexp", "relu", "sigmoid", "silu",
        "softmax", "softplus",
    ),
    "checkpointing": ("checkpoint",),
    "errors": (
        "ArgumentError", "FlatgradError", "InternalError", "NameResolutionError", "ShapeError",
        "SourceError", "StaticValueError", "TypeInferenceError", "UnsupportedError",
    ),
    "hooks": ("adjoint", "custom_vjp", "stop_gradient"),
    "into": ("release_workspace",),
    "modes": (
        "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "linearize",
        "value_and_jacobian", "vjp",
    ),
    "primitives.custom": ("defjvp", "defvjp"),
    "sparse": ("sparse_jacobian", "value_and_sparse_jacobian"),
    "testing": ("check_grads",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ArgumentError", "FlatgradError", "InternalError", "NameResolutionError", "ShapeError",
    "SourceError", "StaticValueError", "TypeInferenceError", "UnsupportedError", "__version__",
    "adjoint", "check_grads", "checkpoint", "custom_vjp", "defjvp", "defvjp", "elu", "gelu", "grad",
    "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "leaky_relu", "linearize",
    "log_softmax", "logsumexp", "optim", "release_workspace", "relu", "sigmoid", "silu", "softmax",
    "softplus",
    "sparse_jacobian", "stop_gradient", "value_and_grad", "value_and_jacobian",
    "value_and_sparse_jacobian", "vjp",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import flatgrad` is quick."""
    home = _HOME.get(name)
    if home is None and name != "optim":
        raise AttributeError(f"module 'flatgrad' has no attribute {name!r}")
    from importlib import import_module

    from flatgrad.collector import paused

    with paused():
        value = import_module(f"flatgrad.{home or name}")
    if home is not None:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
