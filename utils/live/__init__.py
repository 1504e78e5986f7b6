"""What a run tells while it goes on, to those who look on: TensorBoard, and a file of lines.

`live` has the one object that training and sessions see; `base` what those who listen are told and
must do; each other module is one of them, or a part of it.
"""
