import sys
from functools import partial

import numpy as np
import pytest
import torch
from support.processes import parent_of
from support.tiny_backbone import MARKS, SHAPE, WORDS, sizes, write_backbone, write_tokenizer
from support.toy_task import LABELS, a_task, sure_rows, until_step, write_rows
from transformers import (
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from potstill.contract.errors import UserError
from potstill.contract.texts import Text, write_texts
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train
from potstill.trainer.students import encoder
from potstill.trainer.students.start import find_start, new_charformer
from potstill.trainer.training import student as training
from potstill.trainer.training.masking import (
    MASKED,
    SHARE,
    SWAPPED,
    TokenMasking,
    byte_objective,
    mask_spans,
    masked_objective,
    token_objective,
)
from potstill.trainer.training.pretrain import IGNORED, held_out_loss

pytestmark = pytest.mark.slow

QUICK = {"threads": 1, "batch_size": 8, "max_tokens": 16, "epochs": 1}
TOKENS = [*MARKS, *WORDS]
SIZE = sizes(TOKENS)


def bert(folder, kind=BertModel):
    return write_backbone(folder, TOKENS, kind=kind, initializer_range=0.1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A sentence encoder: it has no head of a masked language model."""
    return bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def soft_labels(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("labels") / "soft_labels.jsonl", sure_rows(120, a_task()))


def objective(folder, **changes):
    torch.manual_seed(0)
    student = encoder.from_backbone(folder, LABELS, max_tokens=16, pair=False)
    return student, token_objective(student, folder, TrainConfig(backbone=str(folder), tapt=1, **QUICK | changes))


def batch(student, n=6):
    features = student.encode([(row.text, row.target) for row in sure_rows(n, a_task())])
    return encoder.tokens.pad(features, student.pad_id)


# --- what is masked


def test_tokens_are_masked_in_the_shares_of_bert_and_special_ones_and_padding_never():
    hide = TokenMasking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=1000)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (400, 100), generator=draw)
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones_like(ids)
    mask[:, 60:] = 0
    hidden, targets = hide(ids, mask, draw)
    about = targets != IGNORED
    assert not about[:, 0].any() and not about[:, 60:].any()
    assert (targets[about] == ids[about]).all() and (hidden[~about] == ids[~about]).all()
    assert about[:, 1:60].float().mean().item() == pytest.approx(SHARE, abs=0.005)
    behind, same = hidden[about] == 4, hidden[about] == ids[about]
    assert behind.float().mean().item() == pytest.approx(MASKED, abs=0.01)
    assert same.float().mean().item() == pytest.approx(1 - MASKED - SWAPPED, abs=0.01)


@pytest.mark.parametrize("ids", [[[2, 9, 3]], [[2, 3, 0]], [[3]]])
def test_a_batch_of_few_tokens_has_exactly_one_to_predict_if_chance_finds_none(ids):
    ids = torch.tensor(ids)
    for seed in range(5):
        _, targets = TokenMasking(4, (0, 2, 3, 4), 50)(ids, (ids != 0).long(), torch.Generator().manual_seed(seed))
        assert (targets != IGNORED).sum() == 1


def test_the_same_seed_masks_the_same_bytes_in_spans_and_no_padding():
    ids, mask = torch.full((30, 200), 7), torch.ones(30, 200, dtype=torch.int64)
    mask[:, 150:] = 0
    (hidden, targets), (again, _) = (mask_spans(2, ids, mask, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(hidden, again)
    assert torch.equal(hidden == 2, targets == 7)
    assert not (hidden[:, 150:] == 2).any()
    assert 0.1 < (hidden[:, :150] == 2).float().mean().item() < 0.25


# --- the predictor


def test_a_head_that_the_folder_has_predicts_what_that_model_would(tmp_path):
    folder = bert(tmp_path, BertForMaskedLM)
    student, how = objective(folder)
    assert how.note == ""
    inputs = batch(student)
    ids, targets = how.mask_ids(inputs.pop("input_ids"), inputs["attention_mask"], torch.Generator().manual_seed(0))
    whole = BertForMaskedLM.from_pretrained(folder).eval()
    how.predictor.eval()
    expected = whole(input_ids=ids, labels=targets, **inputs).loss
    torch.testing.assert_close(how.predictor(ids, targets=targets, **inputs), expected, atol=1e-5, rtol=1e-5)
    rates = [group["lr"] for group in how.groups]
    assert rates[0] == rates[1] == 5e-5


def test_a_sentence_encoder_gets_a_new_head_that_is_tied_to_its_word_embeddings(backbone):
    student, how = objective(backbone)
    assert how.note == ", predicted by a new head"
    assert how.predictor.head.get_output_embeddings().weight is student.model.get_input_embeddings().weight
    body, head = how.groups
    assert head["lr"] > body["lr"]
    assert not {id(p) for p in head["params"]} & {id(p) for p in body["params"]}
    assert {id(p) for group in how.groups for p in group["params"]} == {
        id(p) for p in how.predictor.parameters() if p.requires_grad
    }


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # importing ModernBERT loads torch's compiler
@pytest.mark.parametrize("kind", ["distilbert", "roberta", "modernbert"])
def test_other_encoders_are_pretrained_too(tmp_path, kind):
    torch.manual_seed(0)
    if kind == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
        DistilBertModel(DistilBertConfig(**sizes, **SIZE)).save_pretrained(tmp_path)
    elif kind == "roberta":
        RobertaForMaskedLM(RobertaConfig(**SHAPE, **SIZE)).save_pretrained(tmp_path)
    else:
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        marks = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        ModernBertForMaskedLM(ModernBertConfig(reference_compile=False, **SHAPE, **marks, **SIZE)).save_pretrained(tmp_path)
    write_tokenizer(tmp_path, TOKENS)
    student, how = objective(tmp_path)
    assert bool(how.note) == (kind == "distilbert")
    loss = how.predictor(targets=batch(student)["input_ids"], **batch(student))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in how.predictor.parameters() if p.requires_grad)


def test_a_charformer_predicts_bytes_at_the_rate_of_its_body(tmp_path):
    config = TrainConfig(family="charformer", pretrain=1, **QUICK)
    torch.manual_seed(0)
    student = new_charformer(LABELS, max_bytes=config.max_ids, pair=False)
    how = byte_objective(student, config)
    assert [group["lr"] for group in how.groups] == [5e-4]
    features = student.encode([("rise and fall", None), ("stay", None)])
    assert held_out_loss(how, features, student.pad_id) == held_out_loss(how, features, student.pad_id) > 0


# --- in a training


def a_config(family, backbone, n_steps, **changes):
    own = {"tapt": n_steps} if family == "encoder" else {"pretrain": n_steps}
    return TrainConfig(**QUICK | {"backbone": str(backbone), "family": family} | own | changes)


@pytest.mark.parametrize("family", ["encoder", "charformer"])
def test_pretraining_lowers_the_loss_on_texts_that_were_held_out_and_the_report_says_so(backbone, soft_labels, tmp_path, family):
    seen = []
    config = a_config(family, backbone, 60, learning_rate=2e-3)
    report = train(a_task(), soft_labels, tmp_path / "student", config, lambda *step: seen.append(step))
    stage = config.pretraining[0]
    (line,) = report.fit.notes
    assert line in report.as_text().splitlines()
    unit = "token" if family == "encoder" else "byte"
    start = f"{stage}: 60 steps over {report.n_kept} texts with masked {unit}s"
    assert line.startswith(start) and f"loss on {report.student.n_validation} held-out texts " in line
    before, after = (float(word) for word in line.replace(",", "").split() if word.count(".") == 1)
    assert after < before - 0.3
    stages = [name for name, *_ in seen]
    assert stages[:60] == [stage] * 60 and set(stages[61:]) == {"train"}
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_the_pool_is_read_and_texts_that_are_held_out_never_are(backbone, soft_labels, tmp_path, monkeypatch):
    seen, original = [], training.pretrain
    monkeypatch.setattr(training, "pretrain", lambda *args: seen.append(args[2]) or original(*args))
    pool = sure_rows(80, a_task(), seed=9) + sure_rows(120, a_task())  # every labelled text is in it as well
    (tmp_path / "pool.jsonl").write_bytes(write_texts({row.id: Text(row.text, row.id) for row in pool}.values()))
    config = a_config("encoder", backbone, 2, pool=str(tmp_path / "pool.jsonl"))
    report = train(a_task(), soft_labels, tmp_path / "student", config)
    read, held_out = ([tuple(feature["input_ids"]) for feature in part] for part in (seen[0].training, seen[0].held_out))
    assert not set(read) & set(held_out)
    assert len(held_out) == report.student.n_validation
    assert report.n_kept < len(read) <= report.n_kept + 80


def test_the_weights_that_pretraining_starts_from_are_those_of_init(backbone, soft_labels, tmp_path):
    folder = bert(tmp_path / "lm", BertForMaskedLM)
    config = TrainConfig(**QUICK, init=str(folder), tapt=2)
    report = train(a_task(), soft_labels, tmp_path / "student", config)
    assert "new head" in report.fit.notes[0]  # of the classifier
    assert "predicted by a new head" not in report.fit.notes[1]
    assert (
        masked_objective(encoder.from_backbone(folder, LABELS, max_tokens=16, pair=False), find_start(config).path, config).note
        == ""
    )


def test_a_tokenizer_without_a_mask_is_refused_in_one_line(tmp_path, soft_labels):
    folder = bert(tmp_path / "bert")
    write_tokenizer(folder, TOKENS, mask_token=None)
    with pytest.raises(UserError, match=r"^.*bert: its tokenizer has no mask token, so no token can be masked; leave out --tapt$"):
        train(a_task(), soft_labels, tmp_path / "student", a_config("encoder", folder, 2))
    assert not (tmp_path / "student").exists()


def test_an_architecture_without_a_masked_language_model_is_refused_in_one_line(backbone):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    student = encoder.from_backbone(backbone, LABELS, max_tokens=16, pair=False)
    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=24, n_embd=8, n_layer=1, n_head=1, pad_token_id=0))
    folder = backbone.parent / "gpt2"
    model.save_pretrained(folder)
    other = encoder.Encoder(model, student.tokenizer)
    with pytest.raises(UserError, match=r"transformers knows no masked language model of kind gpt2; leave out --tapt$"):
        token_objective(other, folder, TrainConfig(tapt=1))


def test_a_loss_that_is_not_a_number_is_one_line_and_leaves_nothing(backbone, soft_labels, tmp_path):
    config = a_config("encoder", backbone, 8, learning_rate=1e30)
    with pytest.raises(UserError, match=r"^the tapt loss became nan at step [0-9]+ of 8; lower the learning rate$"):
        train(a_task(), soft_labels, tmp_path / "student", config)
    assert list(tmp_path.iterdir()) == []


# --- killed

RUN = """
import sys, time
from pathlib import Path
from support.toy_task import a_task
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train

def slowly(stage, done, total, loss):
    step = (100 if stage == "train" else 0) + done
    print(step, flush=True)
    if step >= {slow_from}:
        time.sleep(0.02)

train(a_task(), Path({soft_labels!r}), Path({checkpoint!r}), TrainConfig(**{settings!r}, save_every=0.0), slowly)
"""


@pytest.fixture(scope="module")
def parent():
    with parent_of("support.toy_task", "potstill.trainer.run") as parent:
        yield parent


@pytest.mark.parametrize("family", ["encoder", "charformer"])
def test_a_run_that_is_killed_during_pretraining_and_after_ends_with_the_weights_of_one_that_was_not(
    parent, backbone, soft_labels, tmp_path, family
):
    settings = QUICK | {"family": family, "backbone": str(backbone), "tapt" if family == "encoder" else "pretrain": 16}
    whole = train(a_task(), soft_labels, tmp_path / "whole", TrainConfig(**settings))
    run = partial(RUN.format, settings=settings, soft_labels=str(soft_labels), checkpoint=str(tmp_path / "student"))
    for wanted in (4, 11, 105):
        with parent.start(run(slow_from=wanted)) as process:  # is killed at the end
            until_step(process, wanted)
    with parent.start(run(slow_from=sys.maxsize)) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert int(output.split()[0]) > 103  # pretraining did not start over
    assert (tmp_path / "student" / "model.safetensors").read_bytes() == (whole.checkpoint / "model.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student", "whole"]


def test_students_of_several_seeds_are_each_pretrained_and_leave_nothing(backbone, soft_labels, tmp_path):
    seen = []
    config = a_config("encoder", backbone, 2, seeds=2, save_every=0.0)
    report = train(a_task(), soft_labels, tmp_path / "student", config, lambda stage, *_: seen.append(stage))
    assert seen.count("tapt") == 3 * 3  # two steps and the end of them, of two students and the one that is written
    assert len(report.ensemble.scores) == 2
    assert np.isfinite(report.ensemble.training).all()
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
