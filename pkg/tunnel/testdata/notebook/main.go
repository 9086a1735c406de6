// SPDX-License-Identifier: Apache-2.0

// Command notebook is a process with a tunnel and nothing else, whose memory can be measured. Its
// argument is the configuration. It prints the URL, and its status for each line that it reads.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

func main() {
	var cfg tunnel.Config
	if err := json.Unmarshal([]byte(os.Args[1]), &cfg); err != nil {
		panic(err)
	}
	tun, err := tunnel.Expose(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	asked := bufio.NewScanner(os.Stdin)
	for fmt.Println(tun.URL()); asked.Scan(); {
		status, _ := json.Marshal(tun.Status())
		fmt.Println(string(status))
	}
	_ = tun.Close()
}
