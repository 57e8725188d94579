// Python module netpress._core: arrays in, arrays or bytes out, interpreter lock released while working.
#include <nanobind/nanobind.h>

#include "base/failure.h"
#include "bindings/arrays.h"

namespace nb = nanobind;
using netpress::Failure;
using netpress::Status;

namespace {

// A failure reaches Python with its status: Failure(message, status).
void raise_failure(const std::exception_ptr& error, void* type) {
  try {
    std::rethrow_exception(error);
  } catch (const Failure& failure) {
    PyErr_SetObject(static_cast<PyObject*>(type), nb::make_tuple(failure.what(), failure.status()).ptr());
  }
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "Entropy coder and quantisers of netpress. Private: use the netpress package.";
  nb::enum_<Status>(m, "Status", "Why a coder or quantiser failed.")
      .value("OK", Status::kOk)
      .value("TRUNCATED", Status::kTruncated)
      .value("BAD_START", Status::kBadStart)
      .value("BAD_TERMINATION", Status::kBadTermination)
      .value("VALUE_OUT_OF_RANGE", Status::kValueOutOfRange)
      .value("RESERVED_FLAG", Status::kReservedFlag)
      .value("INDEX_OUT_OF_RANGE", Status::kIndexOutOfRange)
      .value("BAD_PARAMETER", Status::kBadParameter)
      .value("LEVEL_OUT_OF_RANGE", Status::kLevelOutOfRange);
  nb::exception<Failure> failure(m, "Failure", PyExc_ValueError);
  nb::register_exception_translator(raise_failure, failure.ptr());
  netpress::bindings::bind_coder(m);
  netpress::bindings::bind_quantizers(m);
  netpress::bindings::bind_feedback(m);
}
