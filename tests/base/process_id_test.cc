#include "server/base/process_id.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace secateur {
namespace {

TEST(ProcessId, KnowsThatThisProcessIsNotGone) {
  const ProcessId self = ProcessId::OfThis();
  EXPECT_FALSE(self.host.empty());
  EXPECT_EQ(self.pid, getpid());
  EXPECT_GT(self.start, 0);
  EXPECT_EQ(self, ProcessId::OfThis());
  EXPECT_FALSE(IsKnownToBeGone(self));
}

TEST(ProcessId, KnowsThatAProcessIsGoneOnceItHasEndedWaitedForOrNot) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const int64_t start = ProcessId::OfThis().start;
    if (write(ends[1], &start, sizeof(start)) != sizeof(start)) _exit(1);
    while (true) pause();
  }
  ProcessId child = ProcessId::OfThis();
  child.pid = pid;
  ASSERT_EQ(read(ends[0], &child.start, sizeof(child.start)), ssize_t{sizeof(child.start)});
  EXPECT_FALSE(IsKnownToBeGone(child));
  kill(pid, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(IsKnownToBeGone(child));
  waitpid(pid, nullptr, 0);
  EXPECT_TRUE(IsKnownToBeGone(child));
  close(ends[0]);
  close(ends[1]);
}

TEST(ProcessId, KnowsThatAnotherProcessHasTheNumberByNow) {
  ProcessId earlier = ProcessId::OfThis();
  --earlier.start;
  EXPECT_TRUE(IsKnownToBeGone(earlier));
}

TEST(ProcessId, KnowsNothingOfProcessesElsewhere) {
  ProcessId other = ProcessId::OfThis();
  other.start = -1;
  EXPECT_TRUE(IsKnownToBeGone(other));
  other.host = "another machine";
  EXPECT_FALSE(IsKnownToBeGone(other));
  other.host.clear();
  EXPECT_FALSE(IsKnownToBeGone(other));
  EXPECT_FALSE(IsKnownToBeGone({}));
}

}  // namespace
}  // namespace secateur
