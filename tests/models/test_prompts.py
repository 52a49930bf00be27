"""Token ids of many prompts in one array: a sequence like any other."""

import pickle

import pytest

from corrsteer_core.models.prompts import Prompts

IDS = [[3, 1, 4], [1], [5, 9, 2, 6, 5]]


def test_it_is_the_list_of_prompts_that_it_was_made_of():
    made = Prompts(iter(IDS))
    assert len(made) == 3
    assert [list(prompt) for prompt in made] == IDS
    assert list(made[-1]) == IDS[-1]
    assert [list(prompt) for prompt in made[1:]] == IDS[1:]
    assert [list(prompt) for prompt in pickle.loads(pickle.dumps(made))] == IDS
    assert len(Prompts([])) == 0
    with pytest.raises(IndexError):
        made[3]


def test_it_is_sent_in_little_more_than_its_numbers_take():
    few, many = (len(pickle.dumps(Prompts([[7] * 10] * count))) for count in (10, 1010))
    assert (many - few) / 1000 < 4 * 10 + 8 + 1
