#include <filesystem>
#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kExpert[] = "models/m/experts/e1";

std::string Text(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 % 251);
  return text;
}

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Download : public testing::Test {
 protected:
  absl::Status Get(const v1::ExpertFile& file) {
    return server_.Client().DownloadExpertFile(kExpert, file, dir_.path());
  }
  std::vector<int64_t> Offsets() const {
    std::vector<int64_t> offsets;
    for (const auto& request : server_.secateur.downloads) offsets.push_back(request.offset());
    return offsets;
  }

  FakeServer server_;
  TempDir dir_;
};

TEST_F(Download, WritesEveryByteUnderTheFilesName) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100'000}}) {
    const std::string bytes = Text(size);
    const v1::ExpertFile file = FileOf("model" + std::to_string(size), bytes);
    server_.secateur.download = Serve(file, bytes, 1000);
    ASSERT_OK(Get(file));
    EXPECT_EQ(Read(dir_.Join(file.name())), bytes);
  }
  EXPECT_THAT(FilesIn(dir_.path()), ElementsAre("model0", "model1", "model100000"));
}

TEST_F(Download, ReportsProgress) {
  const std::string bytes = Text(2500);
  const v1::ExpertFile file = FileOf("f", bytes);
  server_.secateur.download = Serve(file, bytes, 1000);
  std::vector<int64_t> seen;
  ASSERT_OK(server_.Client().DownloadExpertFile(
      kExpert, file, dir_.path(), [&](const std::string& name, int64_t done, int64_t total) {
        EXPECT_EQ(name, "f");
        EXPECT_EQ(total, 2500);
        seen.push_back(done);
      }));
  EXPECT_THAT(seen, ElementsAre(0, 1000, 2000, 2500));
}

TEST_F(Download, RefusesNamesThatLeaveTheFolder) {
  for (const std::string name : {"", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\nb"}) {
    v1::ExpertFile file = FileOf("x", "bytes");
    file.set_name(name);
    EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
  }
  v1::ExpertFile nul = FileOf(std::string("a\0b", 3), "bytes");
  EXPECT_THAT(Get(nul), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a\\x00\\x62")));
  EXPECT_THAT(server_.secateur.downloads, IsEmpty());
}

TEST_F(Download, RefusesDigestsAndSizesThatAreNone) {
  v1::ExpertFile file = FileOf("x", "bytes");
  file.set_sha256("abc");
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sha256 of x")));
  file = FileOf("x", "bytes");
  file.set_sha256(std::string(63, 'a') + "/");
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sha256 of x")));
  file = FileOf("x", "bytes");
  file.set_size_bytes(-1);
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
}

TEST_F(Download, OfOtherBytesIsDataLossAndLeavesNothing) {
  const v1::ExpertFile file = FileOf("f", "expected");
  server_.secateur.download = Serve(file, "tampered", 3);
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(file.sha256())));
  EXPECT_THAT(FilesIn(dir_.path()), IsEmpty());
}

TEST_F(Download, OfTooFewBytesIsDataLossAndLeavesNothing) {
  const v1::ExpertFile file = FileOf("f", "expected");
  server_.secateur.download = Serve(file, "expect", 3);
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("6 of 8 bytes")));
  EXPECT_THAT(FilesIn(dir_.path()), IsEmpty());
}

TEST_F(Download, OfTooManyBytesIsDataLossAndLeavesNothing) {
  const v1::ExpertFile file = FileOf("f", "expected");
  server_.secateur.download = Serve(file, "expected and more", 3);
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("more than the 8 bytes")));
  EXPECT_THAT(FilesIn(dir_.path()), IsEmpty());
}

TEST_F(Download, OfAnotherAnnouncementIsDataLoss) {
  const v1::ExpertFile file = FileOf("f", "expected");
  server_.secateur.download = Serve(FileOf("f", "another one"), "expected", 3);
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("announces 11 bytes")));
}

TEST_F(Download, WithoutAnAnnouncementIsDataLoss) {
  const v1::ExpertFile file = FileOf("f", "expected");
  server_.secateur.download = [](const auto&, FakeSecateur::DownloadWriter& writer) {
    v1::DownloadExpertFileResponse response;
    response.set_data("expected");
    writer.Write(response);
    return grpc::Status::OK;
  };
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("does not begin")));
}

TEST_F(Download, GoesOnWhereABrokenStreamStopped) {
  const std::string bytes = Text(1000);
  const v1::ExpertFile file = FileOf("f", bytes);
  const auto whole = Serve(file, bytes, 100);
  server_.secateur.download = [&](const v1::DownloadExpertFileRequest& request,
                                  FakeSecateur::DownloadWriter& writer) {
    if (server_.secateur.downloads.size() == 3) return whole(request, writer);
    const auto upto = static_cast<size_t>(request.offset()) + 300;
    (void)Serve(file, bytes.substr(0, upto), 100)(request, writer);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting");
  };
  ASSERT_OK(Get(file));
  EXPECT_EQ(Read(dir_.Join("f")), bytes);
  EXPECT_THAT(Offsets(), ElementsAre(0, 300, 600));
}

TEST_F(Download, GoesOnInALaterCallAfterAnError) {
  const std::string bytes = Text(1000);
  const v1::ExpertFile file = FileOf("f", bytes);
  server_.secateur.download = [&](const auto& request, auto& writer) {
    (void)Serve(file, bytes.substr(0, 400), 100)(request, writer);
    return grpc::Status(grpc::StatusCode::INTERNAL, "a bug");
  };
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kInternal, "a bug"));
  EXPECT_FALSE(std::filesystem::exists(dir_.Join("f")));
  server_.secateur.download = Serve(file, bytes, 100);
  ASSERT_OK(Get(file));
  EXPECT_EQ(Read(dir_.Join("f")), bytes);
  EXPECT_THAT(Offsets(), ElementsAre(0, 400));
  EXPECT_THAT(FilesIn(dir_.path()), ElementsAre("f"));
}

TEST_F(Download, StartsAgainWhenWhatWasLeftIsTooLong) {
  const v1::ExpertFile file = FileOf("f", "expected");
  dir_.Write(".f." + file.sha256().substr(0, 12) + ".partial", "far too many bytes");
  server_.secateur.download = Serve(file, "expected", 3);
  ASSERT_OK(Get(file));
  EXPECT_THAT(Offsets(), ElementsAre(0));
  EXPECT_EQ(Read(dir_.Join("f")), "expected");
}

TEST_F(Download, GivesUpWhenNoByteComes) {
  const v1::ExpertFile file = FileOf("f", "expected");
  server_.secateur.download = [](const auto&, auto&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "still restarting");
  };
  EXPECT_THAT(Get(file), StatusIs(absl::StatusCode::kUnavailable, "still restarting"));
  EXPECT_EQ(server_.secateur.downloads.size(), 6u);
}

TEST_F(Download, OfAFileThatIsThereMakesNoCall) {
  dir_.Write("f", "expected");
  ASSERT_OK(Get(FileOf("f", "expected")));
  EXPECT_THAT(server_.secateur.downloads, IsEmpty());
}

TEST_F(Download, DoesNotReplaceAnotherFile) {
  dir_.Write("f", "precious");
  EXPECT_THAT(Get(FileOf("f", "expected")),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("/f exists")));
  EXPECT_EQ(Read(dir_.Join("f")), "precious");
  std::filesystem::create_directory(dir_.Join("g"));
  EXPECT_THAT(Get(FileOf("g", "expected")), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(Download, SaysWhereItCannotWrite) {
  const std::string file = dir_.Write("a-file", "");
  const absl::Status status =
      server_.Client().DownloadExpertFile(kExpert, FileOf("f", "x"), file + "/folder");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("a-file/folder"));
}

TEST_F(Download, OfAnExpertBringsItsManifestLast) {
  const std::map<std::string, std::string> contents = {
      {"secateur.json", "{}"}, {"config.json", "{1}"}, {"model.safetensors", "{2}"}};
  v1::Expert expert;
  expert.set_name(kExpert);
  for (const auto& [name, bytes] : contents) *expert.add_files() = FileOf(name, bytes);
  std::swap(*expert.mutable_files(0), *expert.mutable_files(2));  // not in the last place
  server_.secateur.download = [&](const v1::DownloadExpertFileRequest& request,
                                  FakeSecateur::DownloadWriter& writer) {
    const std::string& bytes = contents.at(request.file());
    return Serve(FileOf(request.file(), bytes), bytes, 1)(request, writer);
  };
  ASSERT_OK(server_.Client().DownloadExpert(expert, dir_.Join("new/folder")));
  for (const auto& [name, bytes] : contents)
    EXPECT_EQ(Read(dir_.Join("new/folder/" + name)), bytes);
  EXPECT_EQ(server_.secateur.downloads.size(), 3u);
  EXPECT_EQ(server_.secateur.downloads.back().file(), "secateur.json");
  EXPECT_EQ(server_.secateur.downloads.back().name(), kExpert);
}

}  // namespace
}  // namespace secateur
