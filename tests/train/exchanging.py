"""What one of two processes with two devices each does in the tests of them; prints JSON.

Its argument is a folder that both see. A scheduler's environment says which process it is.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.train import devices, exchange, processes
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.step import TrainStep

folder = Path(sys.argv[1])
processes.start(start_timeout=60, heartbeat_timeout=10)
me = devices.process_index()
facts = {
    "process": [me, devices.process_count(), devices.device_count(), processes.several()],
    "rows_to_read": devices.check_batch_size(8),
    "gather": [len(data) for data in exchange.gather(b"x" * (3 + 1000 * me))],
    "empty": [data.decode() for data in exchange.gather(b"")],
    "rows": exchange.gather_rows([[10 + me, [0.1]], [12 + me, []]][: 2 - me]),
    "from_primary": exchange.from_primary(lambda: {"AP": 0.1 + me, "none": None}),
    "add_up": exchange.add_up(5 + me),
    "same": float(exchange.same_everywhere({"a": np.float32(1 + me)})["a"]),
}

with exchange.together():
    facts["together"] = "no error"
for failing in (0, 1):
    try:
        with exchange.together():
            if me == failing:
                raise UserError(f"the disk of {me} is full")
    except UserError as error:
        facts[f"error in {failing}"] = str(error)

made = folder / "made"
with exchange.primary_first():
    facts["found"] = made.exists()
    time.sleep(0.5 * (1 - me))
    made.touch()


def add_up(state, batch):
    return jax.lax.psum(jnp.sum(batch["x"]), devices.AXIS)


def update(state, total):
    return {"sum": state["sum"] + total, "step": state["step"] + 1}, {"total": total}


compilations = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compilations.append(event.endswith("/backend_compile_duration"))
)
run = devices.map_train_step(
    TrainStep(add_up, update, lambda state: jax.ShapeDtypeStruct((), np.float32))
)
state = devices.replicate({"sum": np.zeros(3, np.float32), "step": np.int32(0)})
whole = np.arange(8, dtype=np.float32)
batch = devices.split({"x": whole[4 * me : 4 * me + 4]}, ("x",))
exchange.gather(b"")
compilations.clear()
state, metrics = run(state, batch)
state, metrics = run(state, batch)
facts["compilations"] = sum(compilations)
facts["total"] = float(metrics["total"])

predict = devices.map_predict_step(lambda variables, batch: variables["step"] * batch["x"])
facts["predicted"] = np.asarray(predict(state, batch)).tolist()

checkpoints = Checkpoints(folder, keep_latest=2)
# The processes do not agree about what is best: the first decides.
checkpoints.save(2, state, {"next_index": 16}, {"name": "two"}, {"AP": 0.5 - me})
checkpoints.save(3, state, {"next_index": 24}, {"name": "two"}, {"AP": 0.4 + me})
checkpoints.wait()
restored, position, meta = checkpoints.restore(devices.replicated_shapes(state))
again, _ = run(restored, batch)
facts["restored"] = [np.asarray(again["sum"]).tolist(), int(again["step"]), position, meta]
facts["best"] = checkpoints.best_step
checkpoints.close()
print(json.dumps(facts))
