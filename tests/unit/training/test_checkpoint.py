import pytest
import torch

from pipeline.training.checkpoint import load_state, save_state


def test_nested_state_comes_back_as_it_was(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": {"step": 3, "seconds": 0.1, "name": "a", "none": None, "yes": True},
        "rows": [{"x": 1e-17}, {"x": float("inf")}],
    }
    save_state(tmp_path, state)
    loaded = load_state(tmp_path)

    assert loaded["progress"] == state["progress"]
    assert loaded["rows"] == state["rows"]
    assert list(loaded["optimizer"]["state"]) == [0, 1]
    torch.testing.assert_close(loaded["model"], dict(state["model"]), rtol=0, atol=0)
    again = torch.optim.AdamW(model.parameters(), lr=0.5)
    again.load_state_dict(loaded["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1


def test_tied_tensors_are_kept_apart_on_disk(tmp_path):
    weight = torch.arange(4.0)
    save_state(tmp_path, {"a": weight, "b": weight})
    assert torch.equal(load_state(tmp_path)["b"], weight)


def test_what_is_neither_tensor_nor_json_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="a/f is a function"):
        save_state(tmp_path, {"a": {"f": lambda: None}})
