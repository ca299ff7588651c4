#include "server/base/mapped_file.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using ::testing::HasSubstr;

TEST(MappedFile, ShowsTheBytesOfTheFile) {
  const TempDir dir;
  const std::string bytes = std::string(10000, 'a') + std::string("\0\xff", 2);
  const std::string path = dir.Write("file", bytes);
  ASSERT_OK_AND_ASSIGN(const auto file, MappedFile::Open(path));
  EXPECT_EQ(file->bytes(), bytes);
  EXPECT_EQ(file->path(), path);
}

TEST(MappedFile, OpensAnEmptyFile) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto file, MappedFile::Open(dir.Write("empty", "")));
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFile, KeepsTheBytesWhenTheFileIsRemoved) {
  const TempDir dir;
  const std::string path = dir.Write("file", "still here");
  ASSERT_OK_AND_ASSIGN(const auto file, MappedFile::Open(path));
  std::filesystem::remove(path);
  EXPECT_EQ(file->bytes(), "still here");
}

TEST(MappedFile, NamesTheFileItCannotOpen) {
  const TempDir dir;
  EXPECT_THAT(MappedFile::Open(dir.Join("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir.Join("absent"))));
}

TEST(MappedFile, RefusesFoldersAndNamedPipesWithoutWaiting) {
  const TempDir dir;
  EXPECT_THAT(MappedFile::Open(dir.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(dir.path())));
  const std::string pipe = dir.Join("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(pipe),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(pipe)));
}

}  // namespace
}  // namespace secateur
