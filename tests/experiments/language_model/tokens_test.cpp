// Files of token ids: text, JSON and numpy arrays, and how each is refused.
#include <catch2/catch.hpp>

#include "experiments/language_model/token_file.h"
#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

using List = std::vector<int32_t>;

List ids_of(const std::string& bytes) {
  return parse_token_ids(bytes, "ids", 1000);
}

std::string refusal(const std::string& bytes) {
  const std::string message = input_error([&] { (void)ids_of(bytes); });
  CHECK_THAT(message, Contains("'ids'"));
  return message;
}

/// As numpy.save writes it.
std::string npy(const std::string& type, const std::string& shape, const std::string& data,
                char version = 1) {
  std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
  const size_t length_bytes = version == 1 ? 2 : 4;
  while ((8 + length_bytes + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string length;
  for (size_t i = 0; i < length_bytes; ++i) length += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return std::string("\x93NUMPY") + version + '\0' + length + header + data;
}

template <class T>
std::string bytes_of(const std::vector<T>& values, bool swapped = false) {
  std::string bytes;
  for (const T value : values) {
    std::string one(reinterpret_cast<const char*>(&value), sizeof value);
    if (swapped) one = std::string(one.rbegin(), one.rend());
    bytes += one;
  }
  return bytes;
}

}  // namespace

TEST_CASE("token ids: text between white space or commas") {
  CHECK(ids_of("1 22\t333\r\n\n4") == List{1, 22, 333, 4});
  CHECK(ids_of("1,22, 333 ,4\n") == List{1, 22, 333, 4});
  CHECK(ids_of("1,2,\n3") == List{1, 2, 3});
  CHECK(ids_of("\xEF\xBB\xBF 7 8\r\n") == List{7, 8});  // as editors on Windows begin a file
  CHECK_THAT(refusal("1 2\n3 x4"), Contains("line 2") && Contains("'x4'") && Contains("decimal"));
  CHECK_THAT(refusal("1,,2"), Contains("line 1") && Contains("','") && Contains("single commas"));
  CHECK_THAT(refusal(",1"), Contains("line 1"));
  CHECK_THAT(refusal("1\n2,\n"), Contains("line 3"));
  CHECK_THAT(refusal("1.0"), Contains("'1.0'"));
  CHECK_THAT(refusal("5 1000"), Contains("'1000'") && Contains("between 0 and 999"));
  CHECK_THAT(refusal("-1"), Contains("'-1'") && Contains("between 0 and 999"));
  CHECK_THAT(refusal(" \n"), Contains("holds no ids"));
  CHECK_THAT(refusal(""), Contains("holds no ids"));
}

TEST_CASE("token ids: JSON, as tokenizers write it") {
  CHECK(ids_of("[1, 22, 333]") == List{1, 22, 333});
  CHECK(ids_of(" \n[[1,2]]") == List{1, 2});
  CHECK(ids_of("\xEF\xBB\xBF[1, 2]") == List{1, 2});
  CHECK(ids_of(R"({"input_ids": [[3, 4]], "attention_mask": [[1, 1]]})") == List{3, 4});
  CHECK(ids_of(R"({"ids": [5], "tokens": ["a"]})") == List{5});
  CHECK_THAT(refusal("[1, 2"), Contains("not valid JSON"));
  CHECK_THAT(refusal(R"([1, 2.5])"), Contains("entry 1") && Contains("2.5") && Contains("integers"));
  CHECK_THAT(refusal(R"([1, "2"])"), Contains("entry 1"));
  CHECK_THAT(refusal("[18446744073709551615]"), Contains("entry 0") && Contains("integers"));
  CHECK_THAT(refusal("[7, 1000]"),
             Contains("entry 1") && Contains("'1000'") && Contains("between 0 and 999"));
  CHECK_THAT(refusal("[[1], [2]]"), Contains("2 sequences"));
  CHECK_THAT(refusal(R"({"a": [1]})"), Contains("'input_ids' or 'ids'"));
  CHECK_THAT(refusal(R"({"ids": 7})"), Contains("list of ids"));
  CHECK_THAT(refusal("[]"), Contains("holds no ids"));
  CHECK_THAT(refusal(std::string(100'000, '[')), Contains("not valid JSON"));
}

TEST_CASE("token ids: numpy arrays of every integer type, in both byte orders") {
  const List expected = {1, 22, 127};
  CHECK(ids_of(npy("|u1", "(3,)", bytes_of<uint8_t>({1, 22, 127}))) == expected);
  CHECK(ids_of(npy("|i1", "(3,)", bytes_of<int8_t>({1, 22, 127}))) == expected);
  CHECK(ids_of(npy("<u2", "(3,)", bytes_of<uint16_t>({1, 22, 127}))) == expected);
  CHECK(ids_of(npy(">i2", "(3,)", bytes_of<int16_t>({1, 22, 127}, true))) == expected);
  CHECK(ids_of(npy("<i4", "(1, 3)", bytes_of<int32_t>({1, 22, 127}))) == expected);
  CHECK(ids_of(npy(">u4", "(3, 1)", bytes_of<uint32_t>({1, 22, 127}, true), 2)) == expected);
  CHECK(ids_of(npy("<i8", "(3,)", bytes_of<int64_t>({1, 22, 127}))) == expected);
  CHECK(ids_of(npy(">u8", "(3,)", bytes_of<uint64_t>({1, 22, 127}, true))) == expected);
  CHECK(ids_of(npy("<i8", "(1,)", bytes_of<int64_t>({9}))) == List{9});
}

TEST_CASE("token ids: numpy files that are no ids, or damaged, are refused") {
  CHECK_THAT(refusal(npy("<f8", "(1,)", bytes_of<double>({1}))), Contains("'<f8'") && Contains("integers"));
  CHECK_THAT(refusal(npy("<i8", "(2, 2)", bytes_of<int64_t>({1, 2, 3, 4}))),
             Contains("(2, 2)") && Contains("one sequence"));
  CHECK_THAT(refusal(npy("<i8", "(3,)", bytes_of<int64_t>({1, 2}))),
             Contains("3 numbers") && Contains("16 bytes"));
  CHECK_THAT(refusal(npy("<i8", "(99999999999999999999,)", "")), Contains("too large"));
  CHECK_THAT(refusal(npy("<i8", "(0,)", "")), Contains("holds no ids"));
  CHECK_THAT(refusal(npy("<i4", "(2,)", bytes_of<int32_t>({1, -5}))),
             Contains("entry 1") && Contains("'-5'"));
  CHECK_THAT(refusal(npy("<u8", "(1,)", bytes_of<uint64_t>({~0ULL}))), Contains("18446744073709551615"));
  CHECK_THAT(refusal(std::string("PK\x03\x04....")), Contains(".npz") && Contains("numpy.save"));
  const std::string whole = npy("<i4", "(2,)", bytes_of<int32_t>({1, 2}));
  for (size_t length = 6; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal(whole.substr(0, length)) != "no error");
  }
}
