import torch

from benchmarks.seeding import generator


def draw(*args):
    return torch.randint(2**31, (8,), generator=generator(*args)).tolist()


def test_seed_and_purpose_decide():
    assert draw(3, "a") == draw(3, "a")
    assert draw(3, "a") != draw(4, "a")
    assert draw(3, "a") != draw(3, "b")
    assert draw(2**32 - 1, "a") != draw(0, "a")


def test_the_numbers_are_not_those_of_a_model_with_the_same_seed():
    torch.manual_seed(3)
    assert torch.randint(2**31, (8,)).tolist() != draw(3, "a")


def test_torchs_own_numbers_go_on_as_if_nothing_had_been_drawn():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draw(0, "a")
    assert torch.equal(torch.rand(3), expected)
