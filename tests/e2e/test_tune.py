"""`service tune` and batches, with real replicas."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.calls import call
from e2e.running import Argosy, RecipeFolder

WAITS = """
import time

def run(numbers):
    time.sleep(0.05)
    return [2 * number for number in numbers]
"""


def test_a_model_that_waits_gets_slots(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    argosy.ok("service", "create", "waits", "-m", recipe.model(2), *recipe.options(WAITS))
    assert "waits has not been tuned yet" in argosy.fails("service", "tune", "waits", "--last")
    found = argosy.json("service", "tune", "waits", "--rate", "100")
    plain = [curve for curve in found["curves"] if curve["batch"] == 1]
    assert [curve["slots"] for curve in plain][:3] == [1, 2, 4]
    peaks = [max(point["rate"] for point in curve["points"]) for curve in plain]
    assert peaks[1] > 1.4 * peaks[0], "two slots wait for two callers at once"
    proposal = found["proposal"]
    assert proposal["max_concurrent_requests"] >= 4
    assert len(proposal["reasons"]) == 4
    batched = next(curve for curve in found["curves"] if curve["batch"] > 1)
    assert batched["able"], "one item per row is what it answers"
    assert argosy.json("service", "tune", "waits", "--last") == found, "it is kept"
    shown = argosy.ok("service", "tune", "waits", "--last").out
    assert "← knee" in shown
    command = next(line for line in shown.splitlines() if line.startswith("argosy service update waits "))
    argosy.ok(*command.split()[1:])
    service = argosy.json("service", "show", "waits")
    assert service["settings"]["max_concurrent_requests"] == proposal["max_concurrent_requests"]
    assert service["replicas_wanted"] == proposal["replicas"]
    assert not [words for words in argosy.commands() if "waits-test" in words], "the scratch replica is gone"


def test_what_cannot_be_measured_is_said(argosy: Argosy, recipe: RecipeFolder) -> None:
    argosy.ok("service", "create", "picky", "-m", recipe.model(3), *recipe.options())
    problem = argosy.fails("service", "tune", "picky", "-d", '{"numbers": ["three"]}')
    assert "/numbers/0" in problem and "{" not in problem, "the message, not the JSON around it"
    assert "no service" in argosy.fails("service", "tune", "nobody")


def test_batches_from_the_command_line(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = """
import time

def run(numbers):
    time.sleep(0.3)
    print("together", len(numbers))
    return {"twice": [2 * number for number in numbers]}
"""
    argosy.ok("service", "create", "batches", "-m", recipe.model(4), *recipe.options(script))
    problem = argosy.fails("service", "update", "batches", "--max-batch-size", "0")
    assert "--max-batch-size" in problem
    argosy.ok("service", "update", "batches", "--max-batch-size", "16")
    service = argosy.json("service", "show", "batches")
    manifest = argosy.json("manifest", "show", service["manifest"])
    assert manifest["recipe"]["serving"] == {"max_batch_size": 16}
    assert "up to 16 rows" in argosy.ok("service", "show", "batches").out
    key = argosy.key("batches")

    def score(number: int) -> None:
        reply = call(service["scoring_url"], {"numbers": [number]}, token=key)
        assert reply.status == 200
        assert reply.json["twice"] == [2 * number]

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(score, range(12)))
    lines = argosy.ok("service", "logs", "batches", "-n", "200").out.split("together ")[1:]
    assert max(int(line.split()[0]) for line in lines[-12:]) > 2, "more than the sample with itself"


def test_without_batches_the_rest_is_measured(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = """
import asyncio

async def run(numbers):
    await asyncio.sleep(0.02)
    return [2 * number for number in numbers]
"""
    argosy.ok("service", "create", "later", "-m", recipe.model(5), *recipe.options(script))
    argosy.ok("service", "update", "later", "--autoscale-enabled", "true", "--max-replicas", 3)
    found = argosy.json("service", "tune", "later", "--rate", "1.5")
    batched = [curve for curve in found["curves"] if curve["batch"] > 1]
    assert [(curve["able"], curve["points"]) for curve in batched] == [(False, [])]
    assert "run() is async" in batched[0]["reason"]
    assert any("run() is async" in reason for reason in found["proposal"]["reasons"])
    shown = argosy.ok("service", "tune", "later", "--last").out
    assert "the 3 of max_replicas carry" in shown
    command = next(line for line in shown.splitlines() if line.startswith("argosy service update later "))
    assert "-z" not in command
    argosy.ok(*command.split()[1:])


def test_streams_cannot_be_measured(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = """
def run(numbers):
    for number in numbers:
        yield f"{number}\\n"
"""
    argosy.ok("service", "create", "flows", "-m", recipe.model(6), *recipe.options(script))
    assert "streams cannot be measured" in argosy.fails("service", "tune", "flows")
