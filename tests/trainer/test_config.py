import pytest

from potstill.contract.errors import UserError
from potstill.trainer.config import RECIPES, TrainConfig


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("min_agreement", 1.1, "from 0 to 1"),
        ("min_agreement", float("nan"), "from 0 to 1"),
        ("epochs", 0, "at least 1"),
        ("patience", 0, "at least 1"),
        ("min_validation", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("head_rate", -1.0, "above 0"),
        ("warmup_share", 2.0, "from 0 to 1"),
        ("weight_decay", -0.1, "at least 0"),
        ("validation_share", 0.0, "above 0 and below 1"),
        ("validation_share", 1.0, "above 0 and below 1"),
        ("seed", -1, "from 0 to 4294967295"),
        ("threads", 0, "at least 1"),
        ("distill_temperature", 0.0, "above 0"),
        ("label_smoothing", 1.0, "at least 0 and below 1"),
    ],
)
def test_a_value_out_of_range_is_refused(field, value, allowed):
    with pytest.raises(UserError) as caught:
        TrainConfig(**{field: value})
    assert str(caught.value) == f"{field} is {value}; it must be {allowed}"


def test_an_unknown_weighting_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^weighting is 'odd'; it must be one of even, certainty$"):
        TrainConfig(weighting="odd")


def test_few_texts_get_many_epochs_and_many_texts_few():
    config = TrainConfig()
    assert [config.n_epochs(n) for n in (1, 20, 100_000)] == [
        RECIPES["encoder"].max_epochs,
        RECIPES["encoder"].max_epochs,
        RECIPES["encoder"].min_epochs,
    ]
    n_texts = RECIPES["encoder"].min_steps // 5 * config.batch_size
    assert config.n_epochs(n_texts) == 5


def test_more_texts_never_get_more_epochs():
    epochs = [TrainConfig().n_epochs(n) for n in range(1, 20_000, 97)]
    assert epochs == sorted(epochs, reverse=True)


def test_wanted_epochs_are_taken_as_they_are():
    assert TrainConfig(epochs=17).n_epochs(5) == 17


def test_the_body_learns_slower_from_many_texts_and_the_head_always_fast():
    rates = [TrainConfig().rates(n) for n in (1, 400, 800, 1600, 100_000)]
    assert rates == [(pytest.approx(rate), 2e-3) for rate in (1e-4, 1e-4, 1e-4 * 0.5**0.5, 5e-5, 5e-5)]


@pytest.mark.parametrize("family", sorted(RECIPES))
def test_stated_rates_are_taken_as_they_are(family):
    assert TrainConfig(family=family, learning_rate=3e-4, head_rate=7e-3).rates(10_000) == (3e-4, 7e-3)


def test_many_labels_and_several_questions_get_more_epochs_and_a_stated_number_stays():
    few, many = (TrainConfig().n_epochs(3000, n_labels) for n_labels in (20, 21))
    assert (few, many) == (2, 6)
    assert (TrainConfig().n_epochs(3000, 10, 1), TrainConfig().n_epochs(3000, 10, 4)) == (2, 6)
    assert TrainConfig(epochs=1).n_epochs(3000, 77, 4) == 1
