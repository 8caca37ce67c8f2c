"""Eden2, the learning rate of the original training (spec/AZEROS.md section 5), with an optional linear end."""

from azeros.params import Schedule


def learning_rate(step: int, num_steps: int, schedule: Schedule) -> float:
    """Learning rate of `step`, counted from 1: the first batch is step 1.

    base * ((s^2 + e^2) / e^2)^-0.5, times 0.5 rising to 1 during warm-up, times a line to zero over the last `decay_share` of the steps.
    """
    eden = ((step**2 + schedule.eden_steps**2) / schedule.eden_steps**2) ** -0.5
    warmup = 0.5 + 0.5 * step / schedule.warmup_steps if step < schedule.warmup_steps else 1.0
    decay_steps = schedule.decay_share * num_steps
    end = min(1.0, (num_steps - step + 1) / decay_steps) if decay_steps else 1.0
    return schedule.base_lr * eden * warmup * end
