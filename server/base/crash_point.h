// Places at which a test ends the process as a power cut would, and bugs that a test plants, to see
// that what is said about crashes is true. In builds without tests both do nothing. Thread-safe.
//
// Where SECATEUR_CRASH_FILE names a file, the process looks for it at every point; once it is
// there, holding "NAME COUNT", the COUNT-th time from then on that NAME is passed is the last.
// SECATEUR_SEEDED_BUG names a bug.
#pragma once

#include <string_view>

namespace secateur {

// All of them: a test kills a server at each.
inline constexpr std::string_view kCrashPoints[] = {
    "store.append",          "store.before_sync",
    "store.before_rename",   "store.before_folder_sync",
    "store.after_commit",    "operation.before_event",
    "operation.after_event", "corpus.before_meta",
    "profile.before_put",    "profile.after_put",
    "expert.before_files",   "expert.before_manifest",
    "expert.after_manifest"};

// `name` is one of kCrashPoints.
void CrashPoint(std::string_view name);
bool SeededBug(std::string_view name);

}  // namespace secateur
