"""Probes against the textbook formula, and their control task."""

import numpy as np
import torch

from icot.probing.linear import ABSENT, NONE, control, encode, is_right, look_up, majority, read

RIDGE = 0.05


def textbook(x, y, asked):
    """Linear discriminant analysis with the pooled covariance of the classes, one probe."""
    mean, scale = x.mean(0), x.std(0, ddof=1)
    x, asked = (x - mean) / scale, (asked - mean) / scale
    classes = np.unique(y)
    means = np.stack([x[y == c].mean(0) for c in classes])
    within = x - means[np.searchsorted(classes, y)]
    inverse = np.linalg.inv(within.T @ within / len(x) + RIDGE * np.eye(x.shape[1]))
    scores = [
        asked @ inverse @ m - m @ inverse @ m / 2 + np.log((y == c).mean())
        for c, m in zip(classes, means, strict=True)
    ]
    return classes[np.argmax(scores, axis=0)]


def test_many_probes_at_once_equal_the_textbook_one_by_one():
    rng = np.random.default_rng(0)
    y = rng.integers(1, [3, 6, 8], size=(300, 3))
    x = rng.normal(size=(300, 12)) + 0.8 * rng.normal(size=(3, 9, 12))[range(3), y].sum(1)
    x[:, 5] *= 1000
    states, numbers = torch.from_numpy(x), torch.from_numpy(y)
    found = read(states[:200], numbers[:200], states[200:], RIDGE).numpy()
    for k in range(3):
        assert (found[:, k] == textbook(x[:200], y[:200, k], x[200:])).all()
    assert 0.3 < (found == y[200:]).mean() < 0.99


def test_a_class_between_two_others_is_found_and_constant_states_tell_the_majority():
    y = torch.arange(100)[:, None] % 5 + 1
    line = torch.stack([y[:, 0].float(), torch.full((100,), 7.0)], dim=1)
    assert is_right(read(line, y, line, 0.01), y).all()
    often = torch.where(torch.arange(100) < 60, 2, 1)[:, None]
    assert (read(line[:, 1:], often, line[:10, 1:], 0.01) == 2).all()


def test_rare_and_absent_values_have_no_class():
    values = np.array([[5], [5], [3], [3], [9], [ABSENT], [5], [9], [4]])
    labels = encode(values, learned=6, most=2)
    assert labels.numbers[:, 0].tolist() == [2, 2, 1, 1, NONE, NONE, 2, NONE, NONE]
    assert labels.present[:, 0].tolist() == [True] * 5 + [False] + [True] * 3
    numbers = torch.from_numpy(labels.numbers)
    assert is_right(numbers, numbers)[:, 0].tolist() == [n != NONE for n in numbers[:, 0]]
    assert majority(encode(values, 6, 1), 6)[:, 0].tolist() == [False, False, False]  # that is 3


def test_labels_of_the_control_task_depend_on_the_input_alone_and_are_as_frequent():
    rng = np.random.default_rng(1)
    values = rng.choice(4, p=[0.6, 0.2, 0.1, 0.1], size=(4000, 2))
    labels = encode(values, 3000, 50)
    inputs = rng.integers(0, 1500, size=4000).astype(np.uint64)
    found = control(labels, inputs, 3000, seed=0)
    for one in np.unique(inputs):
        assert len(np.unique(found.numbers[inputs == one], axis=0)) == 1
    shares = [(found.numbers == c).mean() for c in range(5)]
    assert np.allclose(shares, [0, 0.6, 0.2, 0.1, 0.1], atol=0.05)
    assert abs((found.numbers[:, 0] == labels.numbers[:, 0]).mean() - 0.42) < 0.05  # by chance


def test_a_look_up_says_what_is_most_frequent_with_a_token():
    tokens, numbers = np.array([7, 7, 7, 8, 8]), np.array([[1], [2], [2], [3], [NONE]])
    assert look_up(tokens, numbers, np.array([7, 8, 9]))[:, 0].tolist() == [2, 3, NONE]
