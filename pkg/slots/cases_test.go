// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"strings"
	"testing"
)

// stories are those that a rule, or its simulation, once failed, and what each shows.
var stories = []struct{ shows, text string }{
	{"the slots of the newest are taken by one that was suspended before it was up, and by one that came between: the newest sees it at its next look, and both know in time", `
slots 4
0s expose
583ms stop 0 10.003s
694ms expose
1.104s wipe
1.35s expose`},
	{"two older ones wake up after the newest has come", `
slots 4
0s expose
3.898s stop 0 18.022s
3.899s expose
4.059s stop 1 16.574s
4.113s kill 0 0
5.432s kill 0 1
7.662s expose
11.458s kill 1 0
22.18s kill 1 1`},
	{"what is removed between two looks is back within 10 s", `
slots 4
0s expose
63ms wipe
10.082s expose
12.024s wipe`},
	{"three are exposed at once, and their sockets removed", `
slots 3
0s expose
186ms expose
681ms expose
2.618s wipe`},
	{"nginx led elsewhere, so that taking again pauses. What is seen instead, nobody, does not wait for that", `
slots 1
0s expose
8s foreign 24s
33s wipe`},
	{"sockets are removed once more, right after they were taken again after a pause: the next pause is not a long one", `
slots 1
0s expose
11s foreign 20.954s
32s wipe
34.1s wipe`},
	{"a slot is seen to be nobody's while no link has it, for it was a newer tunnel's: what was taken in vain before does not count for that", `
slots 1
0s expose
10.242s reopen-fails 0
13.22s die 1
13.373s expose
13.455s foreign 6.987s
14.229s reopen 1
22.708s kill 1 0
23.584s die 2
25.638s wipe
27.27s kill 3 0`},
	{"nginx led elsewhere for minutes: a slot that is seen to lead here again is not taken by what was planned before", `
slots 4
0s expose
2.878s reopen 0
3.577s foreign 3m11.4s
3.688s expose
3.702s reopen-fails 1
11.025s wipe`},
	{"a link is lost while taking again pauses: the other one takes its slots at once", `
slots 2
0s expose
8s foreign 24s
33.1s kill 0 0`},
	{"sshd refused a port for a while: a link of reconnect() does not wait for the pause of the one before", `
slots 0
0s expose
118ms deny 17.018s
5.424s mute 0 0 1m15s
16.41s reconnect 0
16.506s stop 0 20.716s`},
	{"the link over which the second look goes is silent: what the first one saw is confirmed over the next link", `
slots 1
0s expose
38ms kill 0 0
1.285s expose
1.382s mute 1 0 1m15s
11.656s mute 0 1 1m15s`},
	{"a take is granted, and its link lost before the answer", `
slots 2
0s expose
6s kill 0 0
6.12s kill 0 1
6.9s kill 0 0`},
	{"a tunnel opened in the place of another fails, and the slots are back with the one before", `
slots 0
0s expose
5s reopen-fails 0
6.5s kill 0 0`},
	{"sshd refused a slot for a while: it is asked for again soon enough after that", `
slots 2
0s expose
923ms reconnect 0
14.626s kill 0 0
14.797s deny 14.273s
21.598s slow 3.366s
22.501s kill 0 0
22.694s reconnect 0
22.767s stop 0 18.126s`},
	{"an older tunnel has just given its slots back, and still answers what it has begun: the newer finds nobody, and is not alone", `
slots 2
0s expose
9.502s expose
9.618s close 0`},
	{"of a single slot: the older tunnel learns of the newer before that one serves", `
slots 1
0s expose
14.451s expose
17.435s kill 1 0`},
	{"sockets are removed while the older tunnel is about to lose them to a newer: that one finds nobody, and connections that nginx keeps lead to the older", `
slots 3
0s expose
1.704s reopen 0
3.632s expose
6.822s wipe
9.673s expose
12.635s kill 2 0`},
	{"a newer tunnel comes and begins while the older is suspended; what that one then finds in its buffers, or is sent again, it does not know", `
slots 4
0s expose
23.004s stop 0 15.298s
23.234s expose
24.711s close 1`},
	{"both are suspended by turns", `
slots 2
0s expose
13.313s expose
13.511s stop 0 20.758s
24.603s stop 1 19.682s
39.783s kill 0 0
42.026s kill 1 1`},
	{"a newer tunnel comes while nobody can be asked", `
slots 4
0s expose
14.179s blind 20.794s
16.282s expose
16.384s reopen-fails 1`},
	{"a tunnel is suspended between its look and its take: it looks again", `
slots 1
0s expose
12.66s kill 0 0
12.839s stop 0 9.198s
13.182s expose
23.505s kill 1 1`},
}

func TestSlotStories(t *testing.T) {
	for _, one := range stories {
		s := read(one.text)
		if s.String() != strings.TrimPrefix(one.text, "\n")+"\n" {
			t.Fatalf("read as\n%s", s)
		}
		for seed := range uint64(100) {
			if s.play(seed, nil) != "" {
				t.Errorf("%s: seed %d: %s", one.shows, seed, told(s, seed))
				break
			}
		}
	}
}
