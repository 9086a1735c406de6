// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

// passedAt is the header of a request that the proxy first passed on then.
func passedAt(at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%s: %d.%03d", passedHeader, ms/1000, ms%1000)
}

// What another tunnel may have begun is not begun here: it was passed on before this memory is, or so long ago that the
// proxy may ask another one. All by the proxy's clock, which may be any time ahead of this machine's.
func TestStaleRequestsAreNotBegun(t *testing.T) {
	const known, slow, never = 0, time.Second, time.Hour // when the proxy's time is known
	for name, c := range map[string]struct {
		method string
		passed time.Duration // after the gate was made; it comes a minute after
		header []string      // in place of that
		clock  time.Duration
		runs   bool
	}{
		"a new one":                    {"POST", time.Minute, nil, known, true},
		"new, and the time is late":    {"POST", time.Minute, nil, slow, true},
		"late itself":                  {"POST", time.Minute - begun.Fresh, nil, known, true},
		"too late":                     {"POST", time.Minute - begun.Fresh - time.Millisecond, nil, known, false},
		"too late, PUT":                {"PUT", time.Minute - begun.Fresh - time.Millisecond, nil, known, false},
		"before the gate":              {"POST", -begun.ClockStep - time.Millisecond, nil, known, false},
		"before, and the time is late": {"POST", -begun.ClockStep - time.Millisecond, nil, slow, false},
		"no time is known":             {"POST", -time.Millisecond, nil, never, true},
		"safe ones run again":          {"GET", -time.Millisecond, nil, known, true},
		"an older proxy":               {"POST", 0, []string{}, known, true},
		"no time":                      {"POST", 0, []string{"yesterday"}, known, true},
		"no milliseconds":              {"POST", 0, []string{"1"}, known, true},
		"two times":                    {"POST", 0, []string{"1.000", "1.000"}, known, true},
		"the year 1970":                {"POST", 0, []string{"1.000"}, known, false},
	} {
		for _, ahead := range []time.Duration{0, -72 * time.Hour, 5 * time.Second} {
			for _, streamed := range []bool{false, true} {
				behind(t, func(d *door) {
					d.app = func(w http.ResponseWriter, r *http.Request) {
						if _, told := r.Header[passedHeader]; told {
							t.Errorf("%s: the app is told", name)
						}
					}
					made := time.Now()
					d.clock = func(ctx context.Context) (time.Duration, bool) {
						select {
						case <-time.After(time.Until(made.Add(time.Minute + c.clock))):
							return ahead, true
						case <-ctx.Done():
							return 0, false
						}
					}
					time.Sleep(time.Minute)
					header := c.header
					if header == nil {
						at := made.Add(c.passed + ahead).UnixMilli()
						header = []string{fmt.Sprintf("%d.%03d", at/1000, at%1000)}
					}
					body, lines := "x", []string{}
					if streamed {
						body, lines = "0\r\n\r\n", []string{"Transfer-Encoding: chunked\r\nX-No: content-length"}
					}
					for _, value := range header {
						lines = append(lines, passedHeader+": "+value)
					}
					want, text, runs := http.StatusBadGateway, says(pageRepeated), int64(0)
					if c.runs {
						want, text, runs = 200, "", 1
					}
					d.wants(fmt.Sprint(name, ", streamed: ", streamed), d.visit(c.method, onceID, body, lines...).answer(), want, text)
					d.wantsRuns(name, runs)
				})
			}
		}
	}
}

// One that is known is joined, however old it is.
func TestAnOldRequestThatIsKnown(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(w http.ResponseWriter, _ *http.Request) { time.Sleep(time.Minute) }
		d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
		time.Sleep(time.Second)
		at := time.Now()
		line := passedAt(at)
		first := d.visit("POST", onceID, "x", line)
		time.Sleep(50 * time.Second)
		again := d.visit("POST", onceID, "x", line)
		d.wants("first", first.answer(), 200, "")
		d.wants("again", again.answer(), 200, "")
		synctest.Wait()
		d.wantsRuns("both", 1)
	})
}

// linked is a connection by a link that answers after a while, behind what fills it, or does not.
type linked struct {
	net.Conn
	after time.Duration
	err   error
}

func (l linked) Answers(ctx context.Context) error {
	select {
	case <-time.After(l.after):
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// One that waited while this process stood still is begun if the link by which it came is there still.
func TestAnOldRequestByALinkThatLives(t *testing.T) {
	for _, lost := range []error{nil, net.ErrClosed} {
		behind(t, func(d *door) {
			d.app = func(http.ResponseWriter, *http.Request) {}
			d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
			at := time.Now()
			time.Sleep(time.Minute)
			here, there := net.Pipe()
			d.conns <- linked{there, 0, lost}
			got := visitOn(t, here, "POST", "/", onceID, "x", passedAt(at)).answer()
			if lost != nil {
				d.wants("the link is gone", got, http.StatusBadGateway, says(pageRepeated))
				d.wantsRuns("the link is gone", 0)
				return
			}
			d.wants("the link lives", got, 200, "")
			d.wantsRuns("the link lives", 1)
		})
	}
}

// What may be done with one is judged when it has come whole: this process may stand still while its body is under way.
func TestABodyThatComesLate(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
		at := time.Now()
		here, there := net.Pipe()
		d.conns <- linked{there, 0, net.ErrClosed}
		v := visitOn(t, here, "POST", "/", onceID, "", passedAt(at), "Content-Length: 1")
		time.Sleep(begun.Fresh + time.Second)
		_, _ = here.Write([]byte("x"))
		d.wants("late", v.answer(), http.StatusBadGateway, says(pageRepeated))
		d.wantsRuns("late", 0)
	})
}

// A body that is long under way because the link is full is not taken for one that another tunnel was asked: its bytes have
// just come by the link.
func TestABodyThatComesLateByAFullLink(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
		at := time.Now()
		here, there := net.Pipe()
		d.conns <- linked{there, 25 * time.Second, nil}
		v := visitOn(t, here, "POST", "/", onceID, "", passedAt(at), "Content-Length: 21")
		for range 21 {
			time.Sleep(begun.Fresh / 20)
			_, _ = here.Write([]byte("x"))
		}
		d.wants("late", v.answer(), http.StatusOK, "")
		d.wantsRuns("late", 1)
	})
}

// What the proxy sends again may have been begun by another tunnel: a look is asked for, and tells.
func TestWhatIsSentAgainWaitsForALook(t *testing.T) {
	for name, c := range map[string]struct {
		looks  time.Duration // after it was asked for
		alone  bool
		shared time.Duration // another tunnel is seen so long after it has come; 0: none is
		runs   int64
		took   time.Duration
		asked  int
	}{
		"alone":                       {time.Second, true, 0, 1, time.Second, 1},
		"a slot was lost":             {time.Second, false, 0, 0, time.Second, 1},
		"another tunnel asks":         {2 * time.Second, true, time.Second, 0, time.Second, 1},
		"no look ends in time":        {begun.Wait + time.Second, false, 0, 1, begun.Wait, 1},
		"another tunnel was there":    {time.Second, true, -time.Second, 0, 0, 0},
		"another tunnel, for so long": {time.Second, true, -begun.Shared, 1, time.Second, 1},
	} {
		behind(t, func(d *door) {
			d.app = func(http.ResponseWriter, *http.Request) {}
			d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
			asked := 0
			d.look = func() bool {
				asked++
				time.AfterFunc(c.looks, func() { d.begun.Looked(time.Now().Add(-time.Millisecond), c.alone) })
				return true
			}
			for range 10 {
				d.begun.Looked(time.Now(), true)
				time.Sleep(7 * time.Second)
			}
			came := time.Now()
			if c.shared < 0 {
				d.begun.Share(came.Add(c.shared))
			} else if c.shared > 0 {
				time.AfterFunc(c.shared, func() { d.begun.Share(came.Add(c.shared)) })
			}
			v := d.visit("POST", onceID, "x", passedAt(came), againHeader+": 1")
			want, text := 200, ""
			if c.runs == 0 {
				want, text = http.StatusBadGateway, says(pageRepeated)
			}
			d.wants(name, v.answer(), want, text)
			if took := time.Since(came); took != c.took || asked != c.asked {
				t.Errorf("%s: it took %v, and asked %d times", name, took, asked)
			}
			d.wantsRuns(name, c.runs)
			time.Sleep(2 * begun.Wait)
		})
	}
}

// While one waits for a look its connection may die, or this process stand still: the proxy may have sent it to another tunnel.
func TestWhatBefallsOneThatWaitsForALook(t *testing.T) {
	for name, c := range map[string]struct {
		dies  bool          // the connection
		stood time.Duration // this process, which its timers do not count
		looks bool          // a look ends
		runs  int64
	}{
		"a look ends":              {false, 0, true, 1},
		"no look ends":             {false, 0, false, 1},
		"a stop, and no look ends": {false, time.Minute, false, 0},
		"the connection dies":      {true, 0, true, 0},
	} {
		behind(t, func(d *door) {
			var stood atomic.Int64
			d.app = func(http.ResponseWriter, *http.Request) {}
			d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
			d.now = func() time.Time { return time.Now().Add(time.Duration(stood.Load())) }
			asked := make(chan struct{}, 10)
			d.look = func() bool { asked <- struct{}{}; return true }
			d.begun.Looked(d.now(), true)
			time.Sleep(begun.Alone)
			here, there := net.Pipe()
			d.conns <- linked{there, 0, nil}
			v := visitOn(t, here, "POST", "/", onceID, "x", passedAt(d.now()), againHeader+": 1")
			<-asked
			if stood.Store(int64(c.stood)); c.dies {
				_ = v.Close()
				synctest.Wait()
			}
			if c.looks {
				d.begun.Looked(d.now().Add(time.Millisecond), true)
			}
			_ = v.answer()
			time.Sleep(2 * begun.Wait)
			d.wantsRuns(name, c.runs)
		})
	}
}

// Where there will be no look it is not waited for.
func TestWhereNoLookComes(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
		d.look = func() bool { return false }
		d.begun.Looked(d.now(), true)
		time.Sleep(begun.Alone)
		came := time.Now()
		d.wants("POST", d.visit("POST", onceID, "x", passedAt(came), againHeader+": 1").answer(), 200, "")
		if took := time.Since(came); took != 0 {
			t.Errorf("it waited for %v", took)
		}
	})
}

// The proxy's time is waited for once: where it is never told, each request would wait.
func TestAClockThatNeverTells(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		told := false
		d.clock = func(ctx context.Context) (time.Duration, bool) {
			if !told {
				<-ctx.Done()
			}
			return time.Hour, told
		}
		for i, want := range []time.Duration{clockWait, 0, 0} {
			began := time.Now()
			d.wants("POST", d.visit("POST", fmt.Sprintf("%032x", i), "x", passedAt(began)).answer(), 200, "")
			if took := time.Since(began); took != want {
				t.Errorf("request %d waited %v, want %v", i, took, want)
			}
		}
		told = true // by an hour, so that this one was passed on long ago
		d.wants("told", d.visit("POST", onceID, "x", passedAt(time.Now())).answer(), http.StatusBadGateway, says(pageRepeated))
	})
}
