// Every plan that this test program runs is checked before it runs.
#include "algorithms/check_plan.h"

namespace {

[[maybe_unused]] const bool checked = [] {
  hyperattn::set_plans_are_checked(true);
  return true;
}();

}  // namespace
