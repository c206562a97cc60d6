"""Every example runs, with settings that keep it short, and does what it says."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGE = 120  # lines


@pytest.fixture
def load(monkeypatch, tmp_path):
    """A function that imports an example; what it writes goes to an empty folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)

    def imported(name, *requirements):
        for requirement in requirements:
            pytest.importorskip(requirement)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return imported


def test_examples_are_all_here_and_short():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"digits", "fit_scipy", "heat", "lotka_volterra", "neuron", "rnn", "train_njit"}
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= PAGE, path.name


def test_neuron(load):
    neuron = load("neuron")
    found = neuron.f(2, -1, -3, -2, -3)
    assert np.allclose(found, [-0.1966, 0.3932, -0.3932, -0.5898, 0.1966], atol=5e-5)


def digits_accuracy(out):
    return float(re.search(r"held out ([\d.]+)%", out)[1])


def test_digits(load, capsys, tmp_path):
    digits = load("digits", "sklearn", "tqdm", "matplotlib")
    digits.main(["--out", "curve.png", "--show"])
    out = capsys.readouterr().out
    assert digits_accuracy(out) >= 96
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "grad_h = grad_s @ W2.T\n" in out
    assert "grad_b2 = grad_s.sum(axis=0)\n" in out
    assert "grad_X" not in out  # nobody asked for it
    assert int(re.search(r"(\d+) epochs", out)[1]) < 100  # it stopped by itself


def test_digits_options(load, capsys, tmp_path):
    digits = load("digits", "sklearn", "tqdm")
    digits.main(["--epochs", "2", "--seed", "3", "--no-plot"])
    first = capsys.readouterr().out
    digits.main(["--epochs", "2", "--seed", "3", "--no-plot"])
    second = capsys.readouterr().out
    assert digits_accuracy(first) == digits_accuracy(second) > 80
    assert list(tmp_path.iterdir()) == []


def test_digits_overfits_a_few_images(load):
    """The sanity check of every lecture on training: a correct gradient learns 25 by heart."""
    digits = load("digits", "sklearn", "tqdm")
    rng = np.random.default_rng(0)
    (X, t), _, _ = digits.load(rng)
    X, t = X[:25], t[:25]
    step = digits.value_and_grad(digits.loss, argnums=("W1", "b1", "W2", "b2"))
    params = [
        rng.normal(0, 0.1, (64, 20)),
        np.zeros(20),
        rng.normal(0, 0.1, (20, 10)),
        np.zeros(10),
    ]
    for _ in range(300):
        _, grads = step(*params, X, t, 0.0)
        params = [p - 0.5 * g for p, g in zip(params, grads, strict=True)]
    assert digits.accuracy(*params, X, t) == 1


def test_digits_gradient(load):
    digits = load("digits", "sklearn", "tqdm")
    from flatgrad import check_grads

    rng = np.random.default_rng(0)
    params = [rng.normal(size=(6, 5)), rng.normal(size=5), rng.normal(size=(5, 10)), np.zeros(10)]
    X, t = rng.normal(size=(7, 6)), rng.integers(0, 10, 7)
    check_grads(digits.loss, (*params, X, t, 0.01))


@pytest.mark.slow
def test_digits_has_the_same_curve_compiled(load):
    digits = load("digits", "sklearn", "tqdm")
    curves = []
    for backend in ("numpy", "numba"):
        rng = np.random.default_rng(0)
        train_set, watched, _ = digits.load(rng)
        names = ("W1", "b1", "W2", "b2")
        step = digits.value_and_grad(digits.loss, argnums=names, backend=backend)
        curves.append(digits.train(step, 2, rng, train_set, watched)[1])
    assert np.allclose(*curves, rtol=1e-9)


def test_fit(load, capsys):
    fit = load("fit_scipy")
    found = fit.main()
    assert np.allclose(found, fit.CERTIFIED, rtol=1e-6)
    out = capsys.readouterr().out
    exact, approximate = (
        re.search(rf"^{row} +(\d+) +([\d.]+)$", out, re.MULTILINE).groups()
        for row in ("flatgrad", "finite differences")
    )
    assert int(exact[0]) < int(approximate[0])
    assert float(exact[1]) > float(approximate[1])


def test_fit_data_are_those_that_were_certified(load):
    """NIST publishes the residual sum of squares too: it would betray a wrong figure."""
    fit = load("fit_scipy")
    certified = fit.loss(fit.CERTIFIED, fit.DENSITY, fit.MOBILITY) * len(fit.DENSITY)
    assert certified == pytest.approx(5.6427082397e3, rel=1e-9)


def test_rnn(load, capsys, tmp_path):
    rnn = load("rnn", "matplotlib")
    rnn.main(["--quick", "--out", "rnn.png"])
    out = capsys.readouterr().out
    assert (tmp_path / "rnn.png").read_bytes().startswith(b"\x89PNG")
    ends = re.findall(r"weights x ([\d.]+): (\S+) at the last step, (\S+) at the first", out)
    (_, near, far), *_, (_, near_large, far_large) = [map(float, end) for end in ends]
    assert far < 1e-9 * near  # it vanishes
    assert far_large > 10 * near_large  # it explodes
    first, last = map(float, re.search(r"letter: ([\d.]+) at first, ([\d.]+)", out).groups())
    assert last < first - 0.8


def test_rnn_gradient(load):
    """The probe's gradient is the adjoint of the state, and clipping bounds it."""
    from flatgrad import check_grads

    rnn = load("rnn")
    rng = np.random.default_rng(0)
    params = rnn.initial(rng, 5, 1.5)
    piece = rng.integers(0, 5, 9)
    probe, weights = rng.normal(0, 0.1, (8, rnn.HIDDEN)), np.ones(8)
    args = (*params, probe, piece, weights)
    names = ("Wx", "Wh", "b", "Wy", "c", "probe")
    check_grads(rnn.loss, (*args, 1e300), argnums=names)
    clipped = rnn.grad(rnn.loss, "probe")(*args, 1e-3)
    assert np.all(np.linalg.norm(clipped, axis=1) <= 1e-3)


def test_heat(load, capsys, tmp_path):
    heat = load("heat", "matplotlib")
    error = heat.main(["--backend", "numpy", "--plot", "rod.png", "--show"])
    out = capsys.readouterr().out
    assert error < 0.3
    assert (tmp_path / "rod.png").read_bytes().startswith(b"\x89PNG")
    assert "grad_new, grad_u = grad_u, grad_new\n" in out
    assert "_tape" not in out  # the scheme is linear: nothing is recorded


def test_heat_gradient(load, monkeypatch):
    heat = load("heat")
    from flatgrad import check_grads

    monkeypatch.setattr(heat, "STEPS", 40)
    shown = heat.readings(heat.truth(), heat.STEPS)
    start = np.sin(np.arange(heat.POINTS))
    check_grads(heat.loss, (start, shown, 0.1), argnums="start")


def test_lotka_volterra(load, capsys):
    lotka_volterra = load("lotka_volterra")
    fit = lotka_volterra.main(["--backend", "numpy", "--show"])
    out = capsys.readouterr().out
    assert np.allclose(fit.x, [0.540, 0.0272, 0.796, 0.0237, 34.6, 5.84], rtol=0.01)
    assert fit.success
    assert "dot_p4_solve_hare = 1.0\n" in out
    assert "typical error of a count 24%" in out


def test_train_njit(load, capsys):
    train_njit = load("train_njit")
    trained = train_njit.main(["--steps", "3000"])
    out = capsys.readouterr().out
    assert re.match(r"3000 steps in [\d.]+ s, [\d,]+ per second\n", out)
    first, last = map(float, re.search(r"loss ([\d.]+) at first, ([\d.]+) in", out).groups())
    assert last < 0.2 * first
    assert float(re.search(r"held out ([\d.]+)%", out)[1]) > 95
    X, t = train_njit.spirals(np.random.default_rng(1), 50)
    assert train_njit.loss(trained, X, t) < 0.3


def test_train_njit_gradient(load):
    train_njit = load("train_njit")
    from flatgrad import check_grads

    rng = np.random.default_rng(0)
    X, t = train_njit.spirals(rng, 5)
    net = train_njit.initial(rng)._replace(w2=rng.normal(size=train_njit.HIDDEN))
    check_grads(train_njit.loss, (net, X, t), argnums="net")
