// Matchers for absl::Status and absl::StatusOr, which our Abseil does not bring along yet.
//
//   EXPECT_OK(store.Put(bytes));
//   ASSERT_OK_AND_ASSIGN(const Mask mask, Compose(profiles));
//   EXPECT_THAT(Open(path), IsOkAndHolds(SizeIs(3)));
//   EXPECT_THAT(Open(path), StatusIs(absl::StatusCode::kNotFound, HasSubstr(path)));
//
// All take an absl::Status or an absl::StatusOr by value or reference; failures print the code and
// the message of the status.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace secateur {
namespace matchers_internal {

// Matchers use the result within the expression that made it.
// NOLINTNEXTLINE(bugprone-return-const-ref-from-parameter)
inline const absl::Status& GetStatus(const absl::Status& status) { return status; }
template <class T>
const absl::Status& GetStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

// gMock matches the value inside a StatusOr<T> of any T, so the matcher is made per T on demand.
template <class Inner>
class IsOkAndHoldsMatcher {
 public:
  explicit IsOkAndHoldsMatcher(Inner inner) : inner_(std::move(inner)) {}

  template <class Result>
  operator testing::Matcher<Result>() const {  // NOLINT(google-explicit-constructor)
    return testing::Matcher<Result>(new Impl<Result>(inner_));
  }

 private:
  template <class Result>
  class Impl : public testing::MatcherInterface<Result> {
   public:
    using Value = typename std::remove_cvref_t<Result>::value_type;

    explicit Impl(const Inner& inner) : inner_(testing::SafeMatcherCast<const Value&>(inner)) {}

    bool MatchAndExplain(Result result, testing::MatchResultListener* listener) const override {
      if (!result.ok()) {
        *listener << "which has status " << result.status();
        return false;
      }
      *listener << "which holds " << testing::PrintToString(*result) << " ";
      return inner_.MatchAndExplain(*result, listener);
    }
    void DescribeTo(std::ostream* os) const override {
      *os << "is OK and has a value that ";
      inner_.DescribeTo(os);
    }
    void DescribeNegationTo(std::ostream* os) const override {
      *os << "is not OK or has a value that ";
      inner_.DescribeNegationTo(os);
    }

   private:
    const testing::Matcher<const Value&> inner_;
  };

  const Inner inner_;
};

}  // namespace matchers_internal

MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  const absl::Status& status = matchers_internal::GetStatus(arg);
  if (!status.ok()) *result_listener << "which has status " << status;
  return status.ok();
}

// The code alone, or the code and a matcher of the message.
MATCHER_P2(StatusIs, code, message_matcher,
           "has the code " + absl::StatusCodeToString(code) + " and a message that " +
               testing::DescribeMatcher<std::string>(message_matcher, negation)) {
  const absl::Status& status = matchers_internal::GetStatus(arg);
  *result_listener << "which has status " << status;
  return status.code() == code &&
         testing::Value(std::string(status.message()),
                        testing::SafeMatcherCast<const std::string&>(message_matcher));
}
inline auto StatusIs(absl::StatusCode code) { return StatusIs(code, testing::_); }

template <class Inner>
auto IsOkAndHolds(Inner inner) {
  return matchers_internal::IsOkAndHoldsMatcher<Inner>(std::move(inner));
}

}  // namespace secateur

#define EXPECT_OK(expr) EXPECT_THAT(expr, ::secateur::IsOk())
#define ASSERT_OK(expr) ASSERT_THAT(expr, ::secateur::IsOk())
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  SECATEUR_TEST_ASSIGN_(SECATEUR_TEST_NAME_(status_or_, __LINE__), lhs, expr)
#define SECATEUR_TEST_ASSIGN_(tmp, lhs, expr) \
  auto tmp = (expr);                          \
  ASSERT_OK(tmp);                             \
  lhs = std::move(tmp).value()
#define SECATEUR_TEST_NAME_(a, b) SECATEUR_TEST_NAME_INNER_(a, b)
#define SECATEUR_TEST_NAME_INNER_(a, b) a##b
