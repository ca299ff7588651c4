#include "server/storage/disk_room.h"

#include <filesystem>

#include "server/storage/file_uri.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;

TEST(DiskRoom, IsToldOfAFolderWhoseNameIsEncoded) {
  const TempDir dir;
  const std::string folder = dir.Join("my store");
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  ASSERT_OK_AND_ASSIGN(const DiskRoom room, DiskRoomOf(PathToFileUri(folder)));
  EXPECT_GT(room.now, 0);
  EXPECT_LE(room.now, room.ever);
}

TEST(DiskRoom, IsNotKnownWhereThereIsNoFolder) {
  const TempDir dir;
  EXPECT_THAT(DiskRoomOf(PathToFileUri(dir.Join("none"))),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(DiskRoomOf("s3://bucket/store"), StatusIs(absl::StatusCode::kUnimplemented));
}

}  // namespace
}  // namespace secateur
