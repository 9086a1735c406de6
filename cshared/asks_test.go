// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// answered waits for the event of an answer and returns the answer as it leaves the library.
func answered(t *testing.T, handle int64) (a answer, text string) {
	t.Helper()
	fd, err := events.descriptor()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if slices.Contains(decode(t, events.take(1<<20)), record{Handle: handle, Type: "answer"}) {
			a = asks.find(handle).read()
			out, err := json.Marshal(a)
			if err != nil || !a.Done {
				t.Fatalf("%s, %v", out, err)
			}
			return a, string(out)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
		_, _ = unix.Read(fd, make([]byte, 8))
	}
	t.Fatal("no event of an answer")
	return
}

// What is near this process is told with its address; ports that are to be spared are asked nothing.
func TestNear(t *testing.T) {
	spared := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked though it must not be") }))
	defer spared.Close()
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	port := func(s *httptest.Server) string { return s.URL[strings.LastIndex(s.URL, ":")+1:] }
	a, text := answered(t, ask(t, `{"ask":"apps.near","never":[`+port(spared)+`]}`, 5*time.Second))
	var found []tunnel.Near
	if err := json.Unmarshal(a.Value, &found); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !slices.ContainsFunc(found, func(n tunnel.Near) bool { return n.Addr == "localhost:"+port(app) && n.Here }) || strings.Contains(text, port(spared)) {
		t.Errorf("%s", text)
	}
}

// ask is begin, and release at the test's end.
func ask(t *testing.T, question string, timeout time.Duration) int64 {
	t.Helper()
	h := asks.begin([]byte(question), timeout)
	t.Cleanup(func() {
		if !asks.release(h) || asks.find(h) != nil || asks.release(h) {
			t.Errorf("handle %d is not gone with its release, or not only once", h)
		}
	})
	return h
}

// askable is a workspace, and a question to it without its last brace.
func askable(t *testing.T, name string, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return `{"ask":"` + name + `","host":"` + s.URL + `","token":"hunter2"`
}

func TestQuestionsThatAreNotUnderstood(t *testing.T) {
	before := asks.count()
	t.Run("each", func(t *testing.T) {
		for _, question := range []string{``, `{`, `[]`, `"x"`, `7`, `{}`, `{"ask":""}`, `{"ask":7}`, `{"ask":"databricks.none"}`, `{"ask":"tunnel.doctor"} x`,
			`{"ask":"databricks.me","host":"http://127.0.0.1:1","token":"hunter2","more":1}`,
			`{"ask":"databricks.me","host":"http://127.0.0.1:1","token":{"hunter2":1}}`,
			`{"ask":"databricks.me","host":"http://127.0.0.1:1"}`,
			`{"ask":"databricks.me","token":"hunter2"}`,
			`{"ask":"databricks.secrets","host":"http://127.0.0.1:1","token":"hunter2","scope":"a/b"}`,
			`{"ask":"databricks.secrets","host":"http://127.0.0.1:1","token":"hunter2","scope":"s","keys":"k"}`,
			`{"ask":"command","args":"hunter2"}`, `{"ask":"command","args":[],"more":"hunter2"}`, `{"ask":"command.answer","handle":9223372036854775807,"text":"hunter2"}`,
			`{"ask":"tunnel.admit","handle":9223372036854775807,"config":{"server":"me@h","key":"hunter2"}}`, `{"ask":"tunnel.reopen","config":7}`,
			`{"ask":"tunnel.doctor","handle":9223372036854775807}`, `{"ask":"tunnel.doctor","handle":"1"}`,
		} {
			a, text := answered(t, ask(t, question, time.Minute))
			if a.Error == nil || !errors.Is(a.Error, tunnel.ErrConfig) || a.Value != nil || strings.Contains(text, "hunter2") {
				t.Errorf("%s: %s", question, text)
			}
			if !strings.HasPrefix(text, `{"done":true,"error":{"class":"config","op":`) {
				t.Errorf("%s: %s", question, text)
			}
		}
		if n := asks.count(); n <= before {
			t.Error("no handle is held")
		}
	})
	if n := asks.count(); n != before {
		t.Errorf("%d handles, %d before", n, before)
	}
}

func TestAnAnswerComesAsAnEvent(t *testing.T) {
	question := askable(t, "databricks.me", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = w.Write([]byte(`{"id":"42","userName":"owner@example.com"}`))
	})
	text := []byte(question + "}")
	h := asks.begin(text, time.Minute)
	defer asks.release(h)
	if _, out := answered(t, h); out != `{"done":true,"value":{"id":"42","name":"owner@example.com"}}` {
		t.Error(out)
	}
	if strings.Trim(string(text), "\x00") != "" {
		t.Error("the question, which holds the token, is still there")
	}
	if again := tunnels.next(); again <= h {
		t.Errorf("handle %d after %d", again, h)
	}
}

func TestBeforeAnAnswerThereIsNone(t *testing.T) {
	end := make(chan struct{})
	question := askable(t, "databricks.cluster", func(w http.ResponseWriter, _ *http.Request) {
		<-end
		_, _ = w.Write([]byte(`{"cluster_id":"c","state":"RUNNING"}`))
	})
	h := ask(t, question+`,"cluster_id":"c"}`, time.Minute)
	if out, err := json.Marshal(asks.find(h).read()); err != nil || string(out) != `{"done":false}` {
		t.Errorf("%s, %v", out, err)
	}
	close(end)
	if _, out := answered(t, h); !strings.Contains(out, `"value":{"id":"c","name":"","state":"running","access_mode":"","autotermination_minutes":0}`) {
		t.Error(out)
	}
}

func TestSecretsOfAWorkspace(t *testing.T) {
	of := func(name, more string, h http.HandlerFunc) string {
		_, out := answered(t, ask(t, askable(t, name, h)+more+"}", time.Minute))
		return out
	}
	scope := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/list") {
			_, _ = w.Write([]byte(`{"secrets":[{"key":"server"},{"key":"other"}]}`))
			return
		}
		_, _ = w.Write([]byte(`{"key":"server","value":"bWVAaA=="}`))
	}
	none := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"no such hunter2"}`))
	}
	for _, c := range []struct {
		name, more string
		h          http.HandlerFunc
		want       string
	}{
		{"databricks.secrets", `,"scope":"s","keys":["server","key"]`, scope, `{"done":true,"value":{"server":"me@h"}}`},
		{"databricks.secrets", `,"scope":"s","keys":["key"]`, scope, `{"done":true,"value":{}}`},
		{"databricks.secrets", `,"scope":"s","keys":["key"]`, none, `{"done":true,"value":null}`},
		{"databricks.secret", `,"scope":"s","key":"server"`, scope, `{"done":true,"value":"me@h"}`},
		{"databricks.secret", `,"scope":"s","key":"server"`, none, `{"done":true,"error":{"class":"workspace","op":"secret",`},
	} {
		if got := of(c.name, c.more, c.h); !strings.HasPrefix(got, c.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s%s: %s, want %s", c.name, c.more, got, c.want)
		}
	}
}

func TestReleaseEndsTheWork(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan struct{})
	question := askable(t, "databricks.me", func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(ended)
	})
	h := asks.begin([]byte(question+"}"), time.Hour)
	q := asks.find(h)
	<-asked
	if !asks.release(h) {
		t.Fatal("it is not there")
	}
	<-ended
	for !q.read().Done { // the work has come to its end
		time.Sleep(time.Millisecond)
	}
	if a := q.read(); !errors.Is(a.Error, context.Canceled) {
		t.Errorf("%v", a.Error)
	}
	if got := decode(t, events.take(1<<20)); slices.Contains(got, record{Handle: h, Type: "answer"}) {
		t.Error("an answer that nobody can fetch was announced")
	}
}

func TestAQuestionEndsInTime(t *testing.T) {
	question := askable(t, "databricks.me", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	a, text := answered(t, ask(t, question+"}", 200*time.Millisecond))
	if !errors.Is(a.Error, context.DeadlineExceeded) || !strings.Contains(text, `"class":"workspace"`) || strings.Contains(text, `"hint":""`) {
		t.Error(text)
	}
}

// What is said before the answer is taken line by line, in order, once, and waits for who takes it.
func TestWhatIsSaidBeforeTheAnswer(t *testing.T) {
	const lines = 2000
	ahead := make(chan int, lines)
	talks["test.says"] = func(ctx context.Context, _ []byte, q *question) (any, error) {
		for n := range lines {
			q.say(ctx, strings.Repeat("<", 1000)+strconv.Itoa(n))
			ahead <- n
		}
		return "done", nil
	}
	defer delete(talks, "test.says")
	h := ask(t, `{"ask":"test.says"}`, time.Minute)
	q := asks.find(h)
	for len(ahead) < mostSaid {
		time.Sleep(time.Millisecond)
	}
	if got := decode(t, events.take(1<<20)); !slices.Contains(got, record{Handle: h, Type: "answer"}) {
		t.Errorf("nobody is told that there is something: %+v", got)
	}
	for _, size := range []int{0, 1, 4096} {
		if text := q.take(size); len(text) < mostSaid*1000 || len(ahead) != mostSaid {
			t.Errorf("%d bytes, %d lines, %d ahead", size, len(text), len(ahead))
		}
	}
	next := 0
	for {
		size := len(q.take(0)) + 1
		text := q.take(size)
		if len(text) >= size {
			continue // more was said meanwhile
		}
		var a answer
		if err := json.Unmarshal(text, &a); err != nil || len(a.Said) > mostSaid {
			t.Fatalf("%d lines, %v", len(a.Said), err)
		}
		for _, line := range a.Said {
			if line != strings.Repeat("<", 1000)+strconv.Itoa(next) {
				t.Fatalf("%.20q… where line %d was to come", line, next)
			}
			next++
		}
		if a.Done && next == lines {
			break
		}
	}
	if text := string(q.take(1 << 10)); text != `{"done":true,"value":"done"}` {
		t.Errorf("%s", text)
	}
}

// Who says something to nobody is let go.
func TestReleaseEndsWhatIsSaid(t *testing.T) {
	ended := make(chan struct{})
	talks["test.says"] = func(ctx context.Context, _ []byte, q *question) (any, error) {
		defer close(ended)
		for ctx.Err() == nil {
			q.say(ctx, "word")
		}
		return nil, ctx.Err()
	}
	defer delete(talks, "test.says")
	h := asks.begin([]byte(`{"ask":"test.says"}`), time.Hour)
	for q := asks.find(h); len(q.take(0)) < mostSaid*len(`"word"`); {
		time.Sleep(time.Millisecond)
	}
	asks.release(h)
	<-ended
}

// A defect of ours is an answer too, and the host lives on.
func TestADefectIsAnAnswer(t *testing.T) {
	defer delete(answers, "test.panic")
	defer delete(answers, "test.type")
	answers["test.panic"] = func(context.Context, []byte) (any, error) { panic("ouch") }
	answers["test.type"] = func(context.Context, []byte) (any, error) { return make(chan int), nil }
	for _, name := range []string{"test.panic", "test.type"} {
		a, text := answered(t, ask(t, `{"ask":"`+name+`"}`, time.Minute))
		if !strings.Contains(text, `"class":"internal"`) || a.Value != nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// Of a tunnel that never was there is something to say all the same.
func TestDoctorOfASetUp(t *testing.T) {
	h := tunnels.expose([]byte(`{"server":"me@h","key":"/nowhere"}`), time.Minute)
	defer tunnels.release(h)
	await(t, h, tunnel.Failed)
	question, err := json.Marshal(map[string]any{"ask": "tunnel.doctor", "handle": h})
	if err != nil {
		t.Fatal(err)
	}
	if _, text := answered(t, ask(t, string(question), time.Minute)); !strings.Contains(text, `"step":"link","ok":false,"seen":"configuration: `) {
		t.Error(text)
	}
}

// A command's events come as lines of JSON, and what it ends with as its value. It is given what it wants of standard input.
func TestACommand(t *testing.T) {
	h := ask(t, `{"ask":"command","args":["proxy","script","-"]}`, time.Minute)
	q := asks.find(h)
	for len(q.take(0)) < len(wantsInput) {
		time.Sleep(time.Millisecond)
	}
	input, err := json.Marshal(map[string]any{"ask": "command.answer", "handle": h, "text": `{"misspelt":1}`})
	if err != nil {
		t.Fatal(err)
	}
	if got := (&question{}).reply(t.Context(), input); got.Error != nil {
		t.Error(got.Error)
	}
	for !q.read().Done {
		time.Sleep(time.Millisecond)
	}
	text := string(q.take(1 << 20))
	if want := `{"done":true,"said":["{\"kind\":\"input\"}","{\"kind\":\"failure\",\"text\":\"configuration: `; !strings.HasPrefix(text, want) || !strings.HasSuffix(text, `],"value":1}`) {
		t.Error(text)
	}
}
