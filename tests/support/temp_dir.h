// A new empty folder under the system's temporary folder (TMPDIR, else /tmp), removed with all it
// holds by the destructor. One thread at a time; different objects never share a folder.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace secateur {

class TempDir {
 public:
  TempDir() : path_((std::filesystem::temp_directory_path() / "secateur-test-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) {
      throw std::system_error(errno, std::generic_category(), "cannot create " + path_);
    }
  }
  ~TempDir() {
    std::error_code ignored;  // a test may have removed it itself
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  // Absolute, without a slash at the end.
  const std::string& path() const { return path_; }
  // The path of `name` in the folder; nothing is created.
  std::string Join(std::string_view name) const {
    return (std::filesystem::path(path_) / name).string();
  }
  // Writes a file, making the folders it lies in; returns its path.
  std::string Write(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path path = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    if (!out) throw std::runtime_error("cannot write " + path.string());
    return path.string();
  }

 private:
  std::string path_;
};

}  // namespace secateur
