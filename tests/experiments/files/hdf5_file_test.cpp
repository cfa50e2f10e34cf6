#include "experiments/files/hdf5_file.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "tests/check_error.h"
#include "tests/paths.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;
using testing::check_error;
using testing::error_of;
using testing::ScratchFolder;

std::string file(const std::string& name) {
  return testing::source_dir() + "/tests/experiments/files/hdf5_files/" + name;
}

std::vector<double> ramp() {
  std::vector<double> values;
  for (int i = 0; i < 30; ++i) values.push_back((i - 7) / 4.0);
  return values;
}

}  // namespace

TEST_CASE("tensors of every float type and byte order are read as float32", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("number_types.h5"));
  for (const std::string name :
       {"/little/f2", "/little/f4", "/little/f8", "/big/f2", "/big/f4", "/big/f8", "/chunked", "/growing"}) {
    INFO(name);
    const Tensor<float> tensor = in.read_tensor(name);
    REQUIRE(tensor.shape() == TensorShape{2, 1, 5, 3});
    CHECK(in.read_shape4(name) == TensorShape{2, 1, 5, 3});
    for (size_t i = 0; i < 30; ++i) REQUIRE(static_cast<double>(tensor.data()[i]) == ramp()[i]);
    const DoubleArray doubles = in.read_doubles(name);
    CHECK(std::vector<double>(doubles.values.begin(), doubles.values.end()) == ramp());
  }
  CHECK(in.info("/big/f2").element_name == "float16");
  CHECK(in.info("/big/f2").element_bytes == 2);
  CHECK(in.info("/chunked").shape == std::vector<int64_t>{2, 1, 5, 3});
}

TEST_CASE("extremes of half precision survive", "[hdf5]") {
  const Tensor<float> t = Hdf5File::open(file("number_types.h5")).read_tensor("/half_extremes");
  CHECK(t.data()[0] == 65504.0F);
  CHECK(t.data()[1] == -65504.0F);
  CHECK(t.data()[2] == std::ldexp(1.0F, -24));
  CHECK(t.data()[3] == std::numeric_limits<float>::infinity());
  CHECK(t.data()[4] == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(t.data()[5]));
}

TEST_CASE("a range of rows is read without the others", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("number_types.h5"));
  const int64_t begin = GENERATE(0, 1, 4);
  const int64_t end = GENERATE(1, 2, 5);
  if (begin >= end) return;
  for (const std::string name : {"/little/f2", "/chunked"}) {
    const Tensor<float> part = in.read_tensor(name, begin, end);
    REQUIRE(part.shape() == TensorShape{2, 1, end - begin, 3});
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t i = begin; i < end; ++i)
        for (int64_t d = 0; d < 3; ++d)
          REQUIRE(static_cast<double>(part.matrix(b).row(i - begin)[d]) ==
                  ramp()[static_cast<size_t>((b * 5 + i) * 3 + d)]);
  }
}

TEST_CASE("a range of rows outside the tensor is refused with its size", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("number_types.h5"));
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 6}, {-1, 3}, {3, 3}, {4, 2}})
    check_error(Blame::input, {"/chunked", "5 rows"},
                [&, b = begin, e = end] { (void)in.read_tensor("/chunked", b, e); });
}

TEST_CASE("integers of every width are read, beyond int64 refused", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("number_types.h5"));
  for (const std::string kind : {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}) {
    const IntegerArray array = in.read_integers("/integers/" + kind);
    CHECK(array.shape == std::vector<int64_t>{2, 3});
    CHECK(array.values == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
  }
  check_error(Blame::input, {"/integers/beyond", "2^63"},
              [&] { (void)in.read_integers("/integers/beyond"); });
  check_error(Blame::input, {"/little/f4", "integers", "float32"},
              [&] { (void)in.read_integers("/little/f4"); });
}

TEST_CASE("attributes are read with their type", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("attributes.h5"));
  CHECK(in.integer_attribute("/", "integer") == 7);
  CHECK(in.integer_attribute("/", "unsigned") == 200);
  CHECK(in.integer_attribute("/", "one_element") == 5);
  CHECK(in.number_attribute("/", "number") == 0.125);
  CHECK(in.number_attribute("/", "half") == 1.5);
  CHECK(in.number_attribute("/", "integer") == 7.0);
  CHECK(in.boolean_attribute("/", "yes"));
  CHECK_FALSE(in.boolean_attribute("/", "no"));
  CHECK(in.text_attribute("/", "text") == "gray");
  CHECK(in.text_attribute("/", "fixed") == "fixed");
  CHECK(in.text_attribute("/", "unicode") == "κ ≥ 1");
  CHECK(in.text_attribute("/", "empty").empty());
  CHECK(in.has_attribute("/", "text"));
  CHECK_FALSE(in.has_attribute("/", "absent"));

  check_error(Blame::input, {"no attribute 'absent'"}, [&] { (void)in.integer_attribute("/", "absent"); });
  check_error(Blame::input, {"'text'", "integer"}, [&] { (void)in.integer_attribute("/", "text"); });
  check_error(Blame::input, {"'number'", "integer"}, [&] { (void)in.integer_attribute("/", "number"); });
  check_error(Blame::input, {"'integer'", "text"}, [&] { (void)in.text_attribute("/", "integer"); });
  check_error(Blame::input, {"'integer'", "true or false"},
              [&] { (void)in.boolean_attribute("/", "integer"); });
  check_error(Blame::input, {"'list'"}, [&] { (void)in.integer_attribute("/", "list"); });

  const AttributeMap all = in.attributes("/");
  CHECK(std::get<int64_t>(all.at("integer")) == 7);
  CHECK(std::get<bool>(all.at("yes")));
  for (const std::string left_out : {"list", "complex", "null"}) CHECK(all.count(left_out) == 0);
}

TEST_CASE("texts are read whether fixed or variable in length", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("attributes.h5"));
  CHECK(in.read_text("/text/variable") == "first line\nsecond line\n");
  CHECK(in.read_text("/text/fixed") == "fixed text");
  check_error(Blame::input, {"/text/several", "one text"}, [&] { (void)in.read_text("/text/several"); });
  check_error(Blame::input, {"/group/member", "one text"}, [&] { (void)in.read_text("/group/member"); });
  CHECK(in.children("/text") == std::vector<std::string>{"fixed", "several", "variable"});
  check_error(Blame::input, {"/text/fixed", "must be a group"}, [&] { (void)in.children("/text/fixed"); });
}

TEST_CASE("what can't be opened is refused with its path", "[hdf5]") {
  check_error(Blame::input, {"absent.h5", "does not exist"}, [] { (void)Hdf5File::open(file("absent.h5")); });
  check_error(Blame::input, {"not_hdf5.h5", "not an HDF5 file"},
              [] { (void)Hdf5File::open(file("not_hdf5.h5")); });
  check_error(Blame::input, {"truncated.h5"}, [] { (void)Hdf5File::open(file("truncated.h5")); });
  check_error(Blame::input, {"folder"}, [] { (void)Hdf5File::open(file("")); });
  check_error(Blame::input, {"/dev/null"}, [] { (void)Hdf5File::open("/dev/null"); });
  check_error(Blame::input, {"image"}, [] { (void)Hdf5File::open_image("", "image"); });
  check_error(Blame::input, {"image"}, [] { (void)Hdf5File::open_image("some bytes", "image"); });
}

TEST_CASE("hostile datasets are refused by name, without taking memory", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("hostile.h5"));
  const auto refused = [&](const std::string& name, const std::string& part) {
    reset_peak_allocated_bytes();
    check_error(Blame::input, {"hostile.h5", name, part}, [&] { (void)in.read_tensor(name); });
    check_error(Blame::input, {"hostile.h5", name, part}, [&] { (void)in.read_shape4(name); });
    CHECK(peak_allocated_bytes() - allocated_bytes() < (1 << 20));
  };
  refused("/rank3", "(2, 3, 4)");
  refused("/soft", "(2, 3, 4)");
  refused("/zero", "(1, 1, 0, 4)");
  refused("/scalar", "4 dimensions");
  refused("/complex", "must hold float16");
  refused("/texts", "must hold float16");
  refused("/booleans", "must hold float16");
  refused("/odd_float", "must hold float16");
  refused("/long_double", "must hold float16");
  refused("/null", "null dataspace");
  refused("/huge", "never written");
  refused("/uncountable", "more elements");
  refused("/never_written", "never written");
  refused("/far_chunks", "chunks");
  refused("/external", "other files");
  refused("/virtual", "other files");
  refused("/link_outside", "is missing");
  refused("/soft_outside", "is missing");
  refused("/dangling", "is missing");
  refused("/loop", "is missing");
  refused("/", "must be a dataset");
  refused("/absent", "is missing");
  refused("/rank3/below", "is missing");
  CHECK_FALSE(in.exists("/link_outside"));
  CHECK(in.exists("/rank3"));
}

TEST_CASE("tables are read column by column", "[hdf5]") {
  const Hdf5File in = Hdf5File::open(file("tables.h5"));
  const Table table = in.read_table("/table");
  REQUIRE(table.columns.size() == 5);
  REQUIRE(table.rows() == 2);
  CHECK(std::get<std::vector<std::string>>(table.find("id")->values) ==
        std::vector<std::string>{"ab", "abcd"});
  CHECK(std::get<std::vector<int64_t>>(table.find("n")->values) == std::vector<int64_t>{-1, 7});
  CHECK(std::get<std::vector<double>>(table.find("x")->values)[0] == 0.5);
  CHECK(std::isnan(std::get<std::vector<double>>(table.find("x")->values)[1]));
  CHECK(std::get<std::vector<double>>(table.find("h")->values) == std::vector<double>{2, -1});
  CHECK(std::get<std::vector<int64_t>>(table.find("u")->values) == std::vector<int64_t>{3, 4});
  CHECK(table.find("absent") == nullptr);
  CHECK(in.read_table("/empty").rows() == 0);

  check_error(Blame::input, {"/two_dimensional", "(2, 2)"}, [&] { (void)in.read_table("/two_dimensional"); });
  check_error(Blame::input, {"/variable_text", "'t'"}, [&] { (void)in.read_table("/variable_text"); });
  check_error(Blame::input, {"/nested", "'inner'"}, [&] { (void)in.read_table("/nested"); });
  check_error(Blame::input, {"/array_member", "'v'"}, [&] { (void)in.read_table("/array_member"); });
  check_error(Blame::input, {"/huge"}, [&] { (void)in.read_table("/huge"); });
}

TEST_CASE("what was written is read back, from disk and from memory", "[hdf5]") {
  const ScratchFolder folder;
  const bool in_memory = GENERATE(false, true);
  Table table;
  table.columns.push_back({"text", std::vector<std::string>{"", "κ", "longest of all"}});
  table.columns.push_back({"integer", std::vector<int64_t>{-1, 0, std::numeric_limits<int64_t>::min()}});
  table.columns.push_back(
      {"number", std::vector<double>{0.1, -std::numeric_limits<double>::infinity(), 1e300}});
  Tensor<float> tensor({1, 2, 3, 4});
  for (int i = 0; i < 24; ++i) tensor.data()[i] = static_cast<float>(i) / 3;
  const std::vector<int64_t> integers{5, -6, 7};
  const std::vector<double> doubles{1.0 / 3};

  const std::string path = folder / "round.h5";
  std::string image;
  {
    Hdf5File out = in_memory ? Hdf5File::create_in_memory(path) : Hdf5File::create(path);
    out.write_tensor("/out", std::as_const(tensor).view());
    out.write_floats("/lse", {1, 2, 12}, tensor.data());
    out.write_integers("/deep/down/integers", {3}, integers.data());
    out.write_doubles("/scalar", {}, doubles.data());
    out.write_text("/config", "name: x\n");
    out.write_text("/nothing", "");
    out.write_table("/trials", table);
    out.write_table("/none", Table{{{"id", std::vector<std::string>{}}, {"n", std::vector<int64_t>{}}}});
    out.make_group("/provenance");
    out.write_attribute("/provenance", "cores", int64_t{8});
    out.write_attribute("/provenance", "cores", int64_t{2});
    out.write_attribute("/provenance", "peak", 0.5);
    out.write_attribute("/provenance", "quiet", false);
    out.write_attribute("/", "empty", std::string());
    std::string text(31999, 'x');
    text += "κκ";
    out.write_attribute("/", "long", text);
    if (in_memory) image = out.image();
    out.close();
  }
  const Hdf5File in = in_memory ? Hdf5File::open_image(image, path) : Hdf5File::open(path);
  CHECK(fs::exists(path) == !in_memory);
  const Tensor<float> back = in.read_tensor("/out");
  REQUIRE(back.shape() == tensor.shape());
  CHECK(std::equal(back.data(), back.data() + 24, tensor.data()));
  CHECK(in.info("/lse").shape == std::vector<int64_t>{1, 2, 12});
  CHECK(in.read_integers("/deep/down/integers").values == integers);
  CHECK(in.read_doubles("/scalar").values[0] == doubles[0]);
  CHECK(in.read_text("/config") == "name: x\n");
  CHECK(in.read_text("/nothing").empty());
  const Table read = in.read_table("/trials");
  REQUIRE(read.columns.size() == 3);
  for (size_t c = 0; c < 3; ++c) {
    CHECK(read.columns[c].name == table.columns[c].name);
    CHECK(read.columns[c].values == table.columns[c].values);
  }
  CHECK(in.read_table("/none").rows() == 0);
  CHECK(in.integer_attribute("/provenance", "cores") == 2);
  CHECK(in.number_attribute("/provenance", "peak") == 0.5);
  CHECK_FALSE(in.boolean_attribute("/provenance", "quiet"));
  CHECK(in.text_attribute("/", "empty").empty());
  CHECK(in.text_attribute("/", "long") == std::string(31999, 'x'));  // cut between characters
}

TEST_CASE("a large table is compressed and read back", "[hdf5]") {
  Table table;
  std::vector<int64_t> integers(60000);
  for (size_t i = 0; i < integers.size(); ++i) integers[i] = static_cast<int64_t>(i / 1000);
  table.columns.push_back({"n", integers});
  table.columns.push_back({"x", std::vector<double>(integers.size(), 0.25)});
  Hdf5File out = Hdf5File::create_in_memory("table.h5");
  out.write_table("/trials", table);
  const std::string image = out.image();
  CHECK(image.size() < 200000);
  const Table back = Hdf5File::open_image(image, "table.h5").read_table("/trials");
  CHECK(back.columns[0].values == table.columns[0].values);
  CHECK(back.columns[1].values == table.columns[1].values);
}

TEST_CASE("equal contents give equal bytes", "[hdf5]") {
  const auto image = [] {
    Hdf5File out = Hdf5File::create_in_memory("same.h5");
    out.write_text("/config", "a: 1");
    out.write_attribute("/", "name", std::string("x"));
    return out.image();
  };
  CHECK(image() == image());
}

TEST_CASE("an output that can't be written is refused", "[hdf5]") {
  const ScratchFolder folder;
  check_error(Blame::environment, {"absent/out.h5", "No such file"},
              [&] { (void)Hdf5File::create(folder / "absent/out.h5"); });
  check_error(Blame::environment, {"can't be written"}, [&] { (void)Hdf5File::create(folder / ""); });
}

TEST_CASE("a full disk while writing is an error of the environment", "[hdf5]") {
  const ScratchFolder folder;
  const std::string path = folder / "full.h5";
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {  // the limit stands for the disk; the child's exit code is what it saw
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{64 * 1024, 64 * 1024};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 99;
    try {
      const Tensor<float> tensor({1, 1, 1024, 64}, 1.0F);
      Hdf5File out = Hdf5File::create(path);
      out.write_tensor("/out", tensor.view());
      out.close();
    } catch (const Error& error) {
      code = error.exit_code();
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
}

namespace {

/// The value of a float of 16 bits with so many bits of exponent, from its definition.
float value_of(unsigned bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>(bits >> static_cast<unsigned>(mantissa_bits));
  const double mantissa = bits & ((1U << static_cast<unsigned>(mantissa_bits)) - 1);
  const double scaled = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  return static_cast<float>(std::ldexp(scaled, std::max(exponent, 1) - bias - mantissa_bits));
}

}  // namespace

TEST_CASE("tensors are rounded to the nearest float of 16 bits, ties to even", "[hdf5]") {
  for (const auto& [name, exponent_bits] : {std::pair{"float16", 5}, {"bfloat16", 8}}) {
    const unsigned largest = ((1U << static_cast<unsigned>(exponent_bits)) - 1)
                             << static_cast<unsigned>(15 - exponent_bits);
    std::vector<float> values;
    std::vector<float> expected;
    for (unsigned bits = 0; bits + 1 < largest; ++bits) {
      const float low = value_of(bits, exponent_bits);
      const float high = value_of(bits + 1, exponent_bits);
      const float tie = low + (high - low) / 2;  // exact: both have at most 11 digits
      for (const auto& [value, rounded] : {std::pair{low, low},
                                           {tie, bits % 2 == 0 ? low : high},
                                           {std::nextafter(tie, 0.0F), low},
                                           {std::nextafter(tie, high), high}}) {
        if (bits == 0 && exponent_bits == 8) continue;  // below the smallest float32
        values.push_back(value);
        values.push_back(-value);
        expected.push_back(rounded);
        expected.push_back(-rounded);
      }
    }
    Tensor<float> tensor(TensorShape{1, 1, 2, static_cast<int64_t>(values.size()) / 2});
    std::copy(values.begin(), values.end(), tensor.data());
    for (const ElementForm form :
         {ElementForm::number, ElementForm::opaque_bits, ElementForm::integer_bits}) {
      DatasetInfo like;
      like.element_name = name;
      like.form = form;
      if (exponent_bits == 5 && form != ElementForm::number) continue;
      Hdf5File file = Hdf5File::create_in_memory("rounded");
      file.write_tensor_like("/x", tensor.view(), like);
      const Hdf5File back = Hdf5File::open_image(file.image(), "rounded");
      CHECK(back.info("/x").element_name == name);
      CHECK(back.info("/x").form == form);
      const Tensor<float> read = back.read_tensor("/x");
      int64_t wrong = 0;
      for (size_t i = 0; i < expected.size(); ++i) wrong += read.data()[i] != expected[i];
      CAPTURE(name, static_cast<int>(form));
      CHECK(wrong == 0);
    }
    tensor.data()[7] =
        std::ldexp(1.0F, exponent_bits == 5 ? 16 : 127) * (exponent_bits == 5 ? 1.0F : 1.9999F);
    DatasetInfo like;
    like.element_name = name;
    check_error(Blame::usage, {"/x", "beyond", name},
                [&] { Hdf5File::create_in_memory("beyond").write_tensor_like("/x", tensor.view(), like); });
  }
}

}  // namespace hyperattn
