#include <filesystem>

#include "client/cli/admin_command.h"
#include "tests/client/cli_runner.h"

namespace secateur::cli {
namespace {

using testing::HasSubstr;

TEST_F(CliTest, TheHelpListsAdmin) {
  EXPECT_EQ(RunAlone({"--help"}), kOk);
  EXPECT_THAT(out_, HasSubstr("admin"));
}

TEST_F(CliTest, AMissingAdminProgramIsNamedWithWhatToDo) {
  std::ostringstream err;
  EXPECT_EQ(BecomeAdmin(dir_.path(), {"verify"}, err), kNotFound);
  EXPECT_THAT(err.str(), HasSubstr(dir_.Join("secateur-admin")));
  EXPECT_THAT(err.str(), HasSubstr("install secateur-admin beside secateur"));
}

TEST(CliAdminDeathTest, TheAdminProgramGetsTheArgumentsAndItsExitCodeIsOurs) {
  const TempDir dir;
  const std::string program =
      dir.Write("secateur-admin", "#!/bin/sh\n[ \"$1 $2\" = \"verify --store=x y\" ] && exit 7\n");
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  std::ostringstream err;
  EXPECT_EXIT(BecomeAdmin(dir.path(), {"verify", "--store=x y"}, err), testing::ExitedWithCode(7),
              "");
}

}  // namespace
}  // namespace secateur::cli
