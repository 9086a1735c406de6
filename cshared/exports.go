// SPDX-License-Identifier: Apache-2.0

// Command cshared is libtaipy_tunnel.so: package tunnel behind the C interface that
// taipy_tunnel.h describes. It decodes, looks up a handle, calls, encodes; it decides nothing.
//
// abi.c holds the exported functions, which refuse in a forked process before Go is entered,
// and calls the go_… functions of this file. No call waits for anything but a lock that is held
// for microseconds.
package main

// #include "taipy_tunnel.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"runtime"
	"runtime/debug"
	"time"
	"unicode/utf8"
	"unsafe"
)

// version is the library's, set by the linker to that of the Python package.
var version = "0.1.0"

func main() {}

// Standard error is the program's. net/http logs there what a server says on a connection that is not asked anything.
func init() { log.SetOutput(io.Discard) }

//export go_abi_version
func go_abi_version() C.int32_t { return C.TT_ABI_VERSION }

//export go_info
func go_info(buf *C.char, size C.size_t) (rc C.int32_t) {
	defer rescue(&rc)
	return give(buf, size, map[string]any{"version": version, "handles": tunnels.count() + asks.count(), "goroutines": runtime.NumGoroutine()})
}

//export go_expose
func go_expose(config *C.char, timeout C.int32_t) (handle C.int64_t) {
	defer rescue(&handle)
	text, ok := take(config)
	if !ok || timeout < 1 || timeout > 3600000 {
		return C.TT_ARGUMENT
	}
	return C.int64_t(tunnels.expose([]byte(text), time.Duration(timeout)*time.Millisecond))
}

//export go_set_target
func go_set_target(handle C.int64_t, target *C.char) (rc C.int32_t) {
	defer rescue(&rc)
	addr, ok := take(target)
	if !ok {
		return C.TT_ARGUMENT
	}
	return with(handle, func(e *entry) C.int32_t {
		if e.setTarget(addr) != nil {
			return C.TT_ARGUMENT
		}
		return 0
	})
}

//export go_tick
func go_tick(handle C.int64_t) (rc C.int32_t) {
	defer rescue(&rc)
	return with(handle, func(e *entry) C.int32_t { e.tick(); return 0 })
}

//export go_url
func go_url(handle C.int64_t, buf *C.char, size C.size_t) (rc C.int32_t) {
	defer rescue(&rc)
	return with(handle, func(e *entry) C.int32_t { return give(buf, size, e.url()) })
}

//export go_new_token
func go_new_token(handle C.int64_t) (rc C.int32_t) {
	defer rescue(&rc)
	return with(handle, func(e *entry) C.int32_t {
		if !e.newToken() {
			return C.TT_ARGUMENT
		}
		return 0
	})
}

//export go_requests
func go_requests(handle C.int64_t, n C.int32_t, buf *C.char, size C.size_t) (rc C.int32_t) {
	defer rescue(&rc)
	return with(handle, func(e *entry) C.int32_t { return give(buf, size, e.requests(int(n))) })
}

//export go_reconnect
func go_reconnect(handle C.int64_t) (rc C.int32_t) {
	defer rescue(&rc)
	return with(handle, func(e *entry) C.int32_t {
		if e.reconnect() {
			return 1
		}
		return 0
	})
}

//export go_status
func go_status(handle C.int64_t, buf *C.char, size C.size_t) (rc C.int32_t) {
	defer rescue(&rc)
	return with(handle, func(e *entry) C.int32_t { return give(buf, size, e.read()) })
}

//export go_close
func go_close(handle C.int64_t, drain C.int32_t) (rc C.int32_t) {
	defer rescue(&rc)
	if drain < 0 {
		return C.TT_ARGUMENT
	}
	return with(handle, func(e *entry) C.int32_t { e.close(time.Duration(drain) * time.Millisecond); return 0 })
}

//export go_release
func go_release(handle C.int64_t) (rc C.int32_t) {
	defer rescue(&rc)
	if asks.release(int64(handle)) {
		return 0
	}
	return with(handle, func(e *entry) C.int32_t { tunnels.release(int64(handle)); return 0 })
}

//export go_ask
func go_ask(question *C.char, timeout C.int32_t) (handle C.int64_t) {
	defer rescue(&handle)
	text, ok := take(question)
	if !ok || timeout < 0 || timeout > 3600000 {
		return C.TT_ARGUMENT
	}
	return C.int64_t(asks.begin([]byte(text), time.Duration(timeout)*time.Millisecond))
}

//export go_answer
func go_answer(handle C.int64_t, buf *C.char, size C.size_t) (rc C.int32_t) {
	defer rescue(&rc)
	q := asks.find(int64(handle))
	if q == nil {
		return C.TT_HANDLE
	}
	return put(buf, size, q.take(int(size)))
}

//export go_event_fd
func go_event_fd() (rc C.int32_t) {
	defer rescue(&rc)
	fd, err := events.descriptor()
	if err != nil {
		return C.TT_INTERNAL
	}
	return C.int32_t(fd)
}

//export go_events
func go_events(buf *C.char, size C.size_t) (rc C.int32_t) {
	defer rescue(&rc)
	return put(buf, size, events.take(int(size)))
}

// with calls f with the tunnel of a handle.
func with(handle C.int64_t, f func(*entry) C.int32_t) C.int32_t {
	e := tunnels.find(int64(handle))
	if e == nil {
		return C.TT_HANDLE
	}
	return f(e)
}

// take copies a C string; false if it is NULL or not UTF-8.
func take(s *C.char) (string, bool) {
	if s == nil {
		return "", false
	}
	text := C.GoString(s)
	return text, utf8.ValidString(text)
}

// give writes v as JSON, by the header's rule for text that comes out.
func give(buf *C.char, size C.size_t, v any) C.int32_t {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return put(buf, size, text)
}

func put(buf *C.char, size C.size_t, text []byte) C.int32_t {
	if C.size_t(len(text)) < size {
		if buf == nil {
			return C.TT_ARGUMENT
		}
		out := unsafe.Slice((*byte)(unsafe.Pointer(buf)), len(text)+1)
		copy(out, text)
		out[len(text)] = 0
	}
	return C.int32_t(len(text))
}

// rescue turns a panic into TT_INTERNAL and a log record.
func rescue[N C.int32_t | C.int64_t](rc *N) {
	if p := recover(); p != nil {
		*rc = C.TT_INTERNAL
		events.defect(0, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}
}
