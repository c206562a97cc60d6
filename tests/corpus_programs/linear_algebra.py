"""Matrix algorithms written as loops, and products in loops."""

from __future__ import annotations

import numpy as np

from tests.corpus_programs.registry import example, normal, positive

SPD = normal(4, 4)
SPD = SPD @ SPD.T + 4 * np.eye(4)


@example(SPD)
def cholesky_logdet(A):
    n = A.shape[0]
    L = np.zeros_like(A)
    for j in range(n):
        s = A[j, j]
        for k in range(j):
            s -= L[j, k] ** 2
        L[j, j] = np.sqrt(s)
        for i in range(j + 1, n):
            t = A[i, j]
            for k in range(j):
                t -= L[i, k] * L[j, k]
            L[i, j] = t / L[j, j]
    total = 0.0
    for j in range(n):
        total += 2 * np.log(L[j, j])
    return total


@example(SPD)
def cholesky_with_slices(A):
    n = A.shape[0]
    L = np.zeros((n, n))
    for j in range(n):
        L[j, j] = np.sqrt(A[j, j] - L[j, :j] @ L[j, :j])
        L[j + 1 :, j] = (A[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return np.sum(L)


@example(normal(4, 4) + 4 * np.eye(4))
def lu_in_place(A):
    n = A.shape[0]
    for k in range(n):
        for i in range(k + 1, n):
            A[i, k] /= A[k, k]
            for j in range(k + 1, n):
                A[i, j] -= A[i, k] * A[k, j]
    d = 1.0
    for k in range(n):
        d *= A[k, k]
    return np.log(abs(d))


@example(normal(4, 4) + 3 * np.eye(4), normal(4), writes=True)
def gauss_with_rows(A, b):
    n = len(b)
    for k in range(n):
        for i in range(k + 1, n):
            f = A[i, k] / A[k, k]
            A[i] -= f * A[k]
            b[i] -= f * b[k]
    x = np.zeros(n)
    for i in reversed(range(n)):
        x[i] = (b[i] - A[i, i + 1 :] @ x[i + 1 :]) / A[i, i]
    return np.sum(x * x)


@example(normal(3, 3) + 3 * np.eye(3), normal(3))
def forward_substitution(L, b):
    x = b.copy()
    for i in range(len(b)):
        for j in range(i):
            x[i] -= L[i, j] * x[j]
        x[i] = x[i] / L[i, i]
    return x @ x


@example(normal(4, 3))
def gram_schmidt(A):
    Q = A.copy()
    for j in range(Q.shape[1]):
        for k in range(j):
            Q[:, j] -= (Q[:, k] @ A[:, j]) * Q[:, k]
        Q[:, j] /= np.sqrt(Q[:, j] @ Q[:, j])
    return np.sum(Q[0] * A[0]) + Q[1, 2]


@example(normal(3, 4), normal(4, 2))
def product_by_loops(A, B):
    C = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for j in range(B.shape[1]):
            for k in range(A.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return np.sum(np.sin(C))


@example(SPD, normal(4), 6)
def power_iteration(A, v, n):
    for _ in range(n):
        v = A @ v
        v = v / np.sqrt(v @ v)
    return v @ A @ v


@example(SPD, normal(4), 3)
def conjugate_gradients(A, b, n):
    x = np.zeros_like(b)
    r = b.copy()
    p = r.copy()
    rr = r @ r
    for _ in range(n):
        Ap = A @ p
        alpha = rr / (p @ Ap)
        x += alpha * p
        r -= alpha * Ap
        new = r @ r
        p = r + (new / rr) * p
        rr = new
    return b @ x


@example(normal(3, 3) * 0.4, 8)
def matrix_exponential(A, n):
    total = np.eye(3)
    term = np.eye(3)
    for k in range(1, n):
        term = term @ A / k
        total = total + term
    return np.sum(total * total)


@example(normal(3, 3) * 0.3 + np.eye(3), 5)
def newton_schulz_inverse(A, n):
    X = A.T * 0.4
    for _ in range(n):
        X = X @ (2 * np.eye(3) - A @ X)
    return np.sum(X * A)


@example(normal(3, 3), normal(3, 3), normal(3, 3))
def matrix_chain(A, B, C):
    P = np.eye(3)
    for M in (A, B, C):
        P = np.tanh(P @ M)
    return np.sum(P)


@example(positive(4, 4))
def floyd_warshall(D):
    d = D.copy()
    n = d.shape[0]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                through = d[i, k] + d[k, j]
                if through < d[i, j]:
                    d[i, j] = through
    return np.sum(d)


@example(normal(3, 3), 4)
def matrix_power_by_squaring(A, n):
    R = np.eye(3)
    B = A * 0.5
    while n > 0:
        if n % 2 == 1:
            R = R @ B
        B = B @ B
        n //= 2
    return np.sum(R)


@example(SPD + np.diag([3.0, 0.0, 6.0, 1.0]))
def jacobi_rotation(A):
    p, q = 0, 2
    theta = 0.5 * np.arctan2(2 * A[p, q], A[q, q] - A[p, p])
    c, s = np.cos(theta), np.sin(theta)
    for k in range(A.shape[0]):
        u, v = A[k, p], A[k, q]
        A[k, p] = c * u - s * v
        A[k, q] = s * u + c * v
    for k in range(A.shape[0]):
        u, v = A[p, k], A[q, k]
        A[p, k] = c * u - s * v
        A[q, k] = s * u + c * v
    return np.sum(A[0] ** 2) + A[2, 2]


@example(normal(5), normal(3), 2)
def gmres_like_projection(b, c, n):
    basis = np.zeros((3, 5))
    basis[0] = b / np.sqrt(b @ b)
    for k in range(n):
        w = np.roll(basis[k], 1) * c[k] + np.sin(basis[k])
        for j in range(k + 1):
            w -= (basis[j] @ w) * basis[j]
        basis[k + 1] = w / np.sqrt(w @ w)
    return np.sum(basis @ b) + c[2] ** 2


@example(normal(4), normal(4))
def cross_correlation_matrix(x, y):
    R = np.outer(x, y)
    for i in range(4):
        R[i, i] += 1.0
        R[i, : i + 1] *= 0.5
    return np.linalg.det(R) + np.trace(R)


@example(normal(3, 3), normal(3), writes=True)
def trace_of_transposed_view(A, x):
    T = A.T
    for i in range(3):
        T[i] *= x[i]
        A[i, 0] += x[0]
    return np.sum(T @ x)
