"""What a run tells while it goes on, to those who look on: TensorBoard, and a file of lines."""
