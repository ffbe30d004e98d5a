"""Names and keys of the container layouts, for every name that a task may have."""

import re

import pytest
import yaml
from support.tiny_bundle import a_manifest

from potstill.export.layouts.container import compose, dockerfile, how_to_docker, inference_service
from potstill.export.layouts.triton import model_name

NAMES = ["Support tickets", "3-way stance", "n" * 80, "客户意图", "客户", "tone.v2_final", "a/b", "x\ny", "--", "Ärger", "n" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_dns_label_with_room_for_what_kserve_adds(name):
    manifest = a_manifest(name=name)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", model_name(manifest))
    assert yaml.safe_load(inference_service(manifest, "i:1"))["metadata"]["name"] == model_name(manifest)
    assert list(yaml.safe_load(compose(manifest, "i:1"))["services"]) == [model_name(manifest)]


@pytest.mark.parametrize("name", ["on", "no", "null", "1e3", "0x1f", "12", "true", "1-1-2026"])
def test_a_name_that_yaml_would_read_as_something_else_stays_a_name(name):
    manifest = a_manifest(name=name)
    expected = model_name(manifest)
    service = yaml.safe_load(inference_service(manifest, "i:1"))
    assert service["metadata"]["name"] == expected and isinstance(expected, str)
    (keys,) = service["spec"]["predictor"]["volumes"]
    assert keys["secret"]["secretName"] == f"{expected}-keys"
    assert list(yaml.safe_load(compose(manifest, "i:1"))["services"]) == [expected]


def test_names_that_lose_their_letters_stay_apart():
    assert len({model_name(a_manifest(name=name)) for name in NAMES}) == len(NAMES)
    assert model_name(a_manifest(name="tone.v2_final")) == "tone-v2-final"


@pytest.mark.parametrize(("name", "served"), [("客户意图", '"/bundle"'), ("a/b", '"a-b=/bundle"'), ("x\ny", '"x-y=/bundle"')])
def test_a_name_that_cannot_be_served_is_given_another_in_the_image(name, served):
    assert f'ENTRYPOINT ["potstill", "serve", {served}, ' in dockerfile(a_manifest(name=name), "1")


def test_the_keys_can_be_read_by_the_user_of_the_container_and_by_nobody_else():
    spec = yaml.safe_load(inference_service(a_manifest(), "i:1"))["spec"]["predictor"]
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsUser"] == 10001
    assert spec["volumes"][0]["secret"]["defaultMode"] == 0o440
    assert "(umask 077 && openssl rand -hex 32 > keys.txt)\nsudo chown 10001 keys.txt\n" in how_to_docker(a_manifest())
