// How a table of kernels that Highway compiled for several instruction sets is taken for one of them. Not
// installed: no installed header needs Highway.
#pragma once

#include <hwy/targets.h>

#include <cstdint>

namespace hyperattn {

/// What `dispatch`, a call through HWY_DYNAMIC_DISPATCH, returns where the processor has no better target
/// than this.
template <class Dispatch>
auto table_of_level(int64_t highway_target, const Dispatch& dispatch) {
  hwy::SetSupportedTargetsForTest(highway_target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  const auto table = dispatch();
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
  return table;
}

}  // namespace hyperattn
