// Values that an entry sets itself although nothing in the configuration gives them an effect.
#pragma once

#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/entry_reader.h"

namespace hyperattn {

/// A problem for each own value, other than the default, that has an effect in no case: neither the entry nor
/// an axis gives the parameters that it depends on a value with which it has one. Values that a later layer
/// made ineffective stay as they are: `hyper.mask=none` says nothing against the block_size of the file.
void refuse_ineffective(const std::vector<EntryDraft>& inputs, const std::vector<EntryDraft>& backends,
                        const std::vector<SweepDimension>& sweep, Problems& problems);

/// The same for a map that no axis reaches, such as `timing`.
void refuse_ineffective(const EntryDraft& draft, Problems& problems);

}  // namespace hyperattn
