#include "server/jobs/operation_journal.h"

#include <iterator>

#include "server/base/log.h"

namespace secateur {

void OperationJournal::Write(const std::string& id, const OperationEvent& event) {
  unwritten_.emplace_back(id, event);
  Flush();
}

void OperationJournal::Flush() {
  while (!unwritten_.empty()) {
    const auto& [id, event] = unwritten_.front();
    const absl::Status written = store_.Append(id, event);
    if (!written.ok()) {
      Log(LogLevel::kError, "an operation's event could not be stored yet",
          {{"operation", id}, {"waiting", std::ssize(unwritten_)}, {"error", written.ToString()}});
      return;
    }
    unwritten_.pop_front();
  }
}

absl::Status OperationJournal::Delete(const std::string& id) {
  std::erase_if(unwritten_, [&id](const auto& event) { return event.first == id; });
  return store_.Delete(id);
}

}  // namespace secateur
