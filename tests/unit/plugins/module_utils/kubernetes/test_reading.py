"""Every query gets its answer, whatever becomes of the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.reading import read_all


@given(st.lists(st.tuples(st.sampled_from(["Node", "Pod", "Role"]), st.none() | st.text())))
def test_each_has_its_answer_and_the_first_failure_is_told(outcomes):
    queries = [{"kind": kind, "number": number} for number, (kind, _said) in enumerate(outcomes)]

    def find(kind, number):
        assert kind == outcomes[number][0]
        if outcomes[number][1] is not None:
            raise OSError(outcomes[number][1])
        return {"resources": [number], "api_found": True}

    def cut(thing):
        return None if thing % 3 == 2 else thing + 100

    answers, problem = read_all(find, [(query, cut) for query in queries])
    assert [answer["item"] for answer in answers] == queries
    for number, (answer, (_kind, said)) in enumerate(zip(answers, outcomes, strict=True)):
        left = [] if number % 3 == 2 else [number + 100]
        assert ("msg" in answer, answer.get("resources")) == ((False, left) if said is None else (True, None))
        assert said is None or answer["msg"] == (said or "OSError")
    failures = [(kind, said) for kind, said in outcomes if said is not None]
    assert problem == (f"{failures[0][0]}: {failures[0][1] or 'OSError'}" if failures else "")
