// A file system of its own, for tests that fill or lock it.
#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <string>
#include <utility>

namespace secateur {

// In memory, of `size` ("1m"), at a folder that it makes. Needs privileges: without them nothing is
// mounted. One thread at a time.
class SmallDisk {
 public:
  SmallDisk(std::string folder, const std::string& size)
      : folder_(std::move(folder)), options_("size=" + size) {
    std::filesystem::create_directory(folder_);
    mounted_ = Mount(0);
  }
  ~SmallDisk() {
    if (mounted_) umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  // False while a file of it is open for writing.
  bool MakeReadOnly() { return Mount(MS_REMOUNT | MS_RDONLY); }
  bool MakeWritable() { return Mount(MS_REMOUNT); }

 private:
  bool Mount(unsigned long flags) {
    return mount("tmpfs", folder_.c_str(), "tmpfs", flags, options_.c_str()) == 0;
  }

  const std::string folder_;
  const std::string options_;
  bool mounted_ = false;
};

}  // namespace secateur
