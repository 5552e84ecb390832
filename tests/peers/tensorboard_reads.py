"""Opens one of our event files, or a folder with some, with TensorBoard's own reader.

    pip install tensorboard
    python tests/peers/tensorboard_reads.py artifacts/RUN

Prints every tag with its (step, value) pairs; exits 1 when it finds no scalars.
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if len(sys.argv) != 2:
    sys.exit(__doc__)
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
print(f"file version {events.file_version}, first event at {events.FirstEventTimestamp()}")
tags = events.Tags()["scalars"]
for tag in tags:
    print(tag, [(event.step, event.value) for event in events.Scalars(tag)])
if not tags:
    sys.exit(f"{sys.argv[1]}: TensorBoard found no scalars")
