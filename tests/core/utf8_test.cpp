// Text that is cut, checked and shown.
#include "core/utf8.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace hyperattn {

TEST_CASE("what a message quotes is shown without control characters and stray bytes", "[utf8]") {
  CHECK(printable("two\nlines\tand \u00e9 \u6587 \U0001F600") == "two\nlines\tand \u00e9 \u6587 \U0001F600");
  CHECK(printable("\x93NUMPY\x01") == "\\x93NUMPY\\x01");
  CHECK(printable("\033[31mred\x7f\r") == "\\x1b[31mred\\x7f\\x0d");
  CHECK(printable("\xc2\x9b"
                  "31m \xc2\xa7") ==
        "\\xc2\\x9b31m \u00a7");  // the control character CSI, and a paragraph sign
  CHECK(printable("cut \xe6\x96") == "cut \\xe6\\x96");
  CHECK(printable(std::string("a\0b", 3)) == "a\\x00b");
  CHECK(std::string(Error(Blame::input, "'\xff' is no id").what()) == "'\\xff' is no id");
}

TEST_CASE("well-formed sequences are told from others", "[utf8]") {
  CHECK(is_utf8("plain \u00e9\u6587\U0001F600"));
  for (const char* bad :
       {"\x80", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5", "\xe6\x96"}) {
    CAPTURE(printable(bad));
    CHECK_FALSE(is_utf8(bad));
  }
}

}  // namespace hyperattn
