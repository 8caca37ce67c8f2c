"""What is ours of training: the rows, the frozen encoders' stored outputs, the learning rate, the loop."""
