// What a row of the results says of its input point, whatever is run on it.
#pragma once

#include "experiments/config/grid.h"
#include "experiments/results/trial_record.h"

namespace hyperattn {

/// Source, label, parameters, shapes, and what the problem has besides.
void describe_input(const InputPoint& point, TrialRecord& record);

}  // namespace hyperattn
