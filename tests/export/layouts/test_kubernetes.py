"""The Kustomize folders fit together, and their dashboard asks for nothing but what a running server exports."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.serving import ServerProcess
from support.tiny_bundle import a_familiarity, a_manifest, some_heads, write_bundle

from potstill.contract.bundle import read_manifest
from potstill.export.config import PackageConfig
from potstill.export.layouts.dashboard import PANELS, dashboard
from potstill.export.layouts.kubernetes import WAIT_METRIC, how_to, write_kubernetes
from potstill.export.layouts.package import package
from potstill.export.layouts.triton import model_name
from potstill.serve.http.config import Limits

pytestmark = pytest.mark.slow

NAME = "tiny"
IMAGE = "team/tiny:1"
FOLDERS = {"base": 2, "overlays/monitored": 4, "overlays/autoscaled": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("kubernetes")
    bundle = write_bundle(place / "bundle")
    (place / "out").mkdir()
    write_kubernetes(bundle, place / "out", read_manifest(bundle), IMAGE, "0.1.0")
    return place / "out"


@pytest.fixture(scope="module")
def objects(folder):
    """What kubectl builds of each folder, by folder and kind."""
    program = shutil.which("kubectl") or pytest.skip("there is no kubectl here")
    found = {}
    for name in FOLDERS:
        done = subprocess.run([program, "kustomize", folder / name], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        found[name] = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(names of all series, labels by family) of a running server that has answered, abstained and refused."""
    place = tmp_path_factory.mktemp("served")
    one = write_bundle(place / "one", thresholds={"down": 0.99}, familiarity=a_familiarity())
    several = write_bundle(place / "several", heads=some_heads())
    with ServerProcess(f"one={one}", f"several={several}") as server:
        for text in ("the zebra will rise", "q x z q x z"):
            assert server.post("/classify", {"text": text})[0] == 200
        assert server.ask("POST", "/classify", b"{")[0] == 400
        assert server.post("/bundles/several/classify", {"text": "fall"})[0] == 200
        status, body, _ = server.ask("GET", "/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(body.decode()))
    names = {name for family in families for name in _series(family)}
    labels = {}
    for family in families:
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return names, labels


def _series(family):
    """The names that a family's series have, whether or not one is there yet."""
    ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ("",))
    return [family.name + end for end in ends]


def queries():
    return [(panel.title, query) for panel in PANELS for query in panel.queries.values()]


@pytest.mark.parametrize(("title", "query"), queries())
def test_every_metric_and_label_of_the_dashboard_is_exported(title, query, exported):
    names, labels = exported
    asked = set(re.findall(r"\b(?:potstill|process)_\w+", query))
    assert asked and asked <= names, asked - names
    split = {word for found in re.findall(r"by \(([^)]*)\)", query) for word in re.split(r",\s*", found) if word}
    chosen = set(re.findall(r"[{,]\s*(\w+)=", query))
    from_scraping = {"pod", "job", "namespace"}
    for name in asked & set(labels):
        assert (split | chosen) - from_scraping <= labels[name], (name, split, chosen)


def test_a_bundle_without_a_card_gets_one(tmp_path):
    made = package(write_bundle(tmp_path / "bundle"), tmp_path / "out", PackageConfig("kubernetes"))
    card = (made.folder / "README.md").read_text()
    assert card.startswith("# tiny\n\n## Use\n\n```sh\ndocker build ") and "kubectl apply -k base" in card


def test_the_metric_that_scales_is_exported(exported):
    assert WAIT_METRIC in exported[0]


def test_the_dashboard_is_json_with_a_place_for_every_panel_and_the_job_s_name():
    found = json.loads(dashboard(NAME))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found["panels"]]
    assert len(set(places)) == len(PANELS) and len({panel["id"] for panel in found["panels"]}) == len(PANELS)
    for panel in found["panels"]:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert f'job="{NAME}"' in target["expr"] and "JOB" not in target["expr"]


@pytest.mark.parametrize("name", FOLDERS)
def test_each_folder_builds_and_its_names_ports_and_selectors_agree(name, objects):
    found = objects[name]
    assert len(found) == FOLDERS[name]
    pod, service = found["Deployment"]["spec"]["template"], found["Service"]
    labels = pod["metadata"]["labels"]
    assert (
        labels.items() >= service["spec"]["selector"].items() and found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    )
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert container[probe]["httpGet"]["path"] == path and container[probe]["httpGet"]["port"] in ports
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert container["image"] == IMAGE and container["securityContext"]["readOnlyRootFilesystem"]
    limits = Limits()
    drained = int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + limits.lead_s + limits.grace_s
    assert pod["spec"]["terminationGracePeriodSeconds"] > drained
    if "ServiceMonitor" in found:
        monitor = found["ServiceMonitor"]["spec"]
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
        (secret,) = [volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert monitor["endpoints"][0]["authorization"]["credentials"] == {"name": secret, "key": "metrics"}
        assert f"generic {secret} --from-literal=keys=" in how_to(a_manifest(), IMAGE)
        assert json.loads(found["ConfigMap"]["data"]["dashboard.json"])["title"] == "potstill: tiny"
        assert found["ConfigMap"]["metadata"]["labels"]["grafana_dashboard"] == "1"
    if "HorizontalPodAutoscaler" in found:
        scaler = found["HorizontalPodAutoscaler"]["spec"]
        assert scaler["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
        assert scaler["metrics"][0]["pods"]["metric"]["name"] == WAIT_METRIC
        assert "replicas" not in found["Deployment"]["spec"]  # or every apply would set it back


@pytest.mark.parametrize("name", ["on", "null", "客户", "n" * 80])
def test_any_name_stays_a_name(name, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", name=name)
    (tmp_path / "out").mkdir()
    write_kubernetes(bundle, tmp_path / "out", read_manifest(bundle), IMAGE, "0.1.0")
    texts = {path.relative_to(tmp_path): path.read_text() for path in (tmp_path / "out").rglob("*.yaml")}
    found = [yaml.safe_load(text) for text in texts.values()]
    names = [one["metadata"]["name"] for one in found if "metadata" in one]
    assert set(names) == {model_name(read_manifest(bundle))} and len(names) == 4


def test_the_adapter_s_rule_is_yaml_about_the_scaling_metric(folder):
    (rule,) = yaml.safe_load((folder / "overlays/autoscaled/adapter-rules.yaml").read_text())["rules"]
    assert rule["seriesQuery"].startswith(WAIT_METRIC) and rule["name"]["as"] == WAIT_METRIC
