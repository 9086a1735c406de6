// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

const (
	agentTimeout = time.Second      // to say which keys it holds
	signTimeout  = 20 * time.Second // for each signature: an agent may wait for its owner's finger
	maxAgentKeys = 100              // that are looked at
)

// agentKey is a key of an agent that notes why the agent did not sign with it: ssh-add -c asks its owner, a security key wants
// a finger.
type agentKey struct {
	ssh.AlgorithmSigner
	agent   net.Conn
	refused func(error)
}

func (a agentKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return a.SignWithAlgorithm(rand, data, "")
}

func (a agentKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	begin := time.Now()
	_ = a.agent.SetDeadline(begin.Add(signTimeout)) // the server may have taken its time before
	signature, err := a.AlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
	if err != nil && time.Since(begin) >= signTimeout {
		err = os.ErrDeadlineExceeded // of which the client keeps no more than the text
	}
	if err != nil {
		a.refused(err)
	}
	return signature, err
}

// agentKeys asks the ssh-agent at a socket for its keys, which tell refused why they do not sign. The connection is there for the
// signing and ends with ctx or close: a forked child, or a server, must not find it open afterwards.
func agentKeys(ctx context.Context, socket string, refused func(error)) (keys []ssh.Signer, closer func(), err error) {
	listing, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(listing, "unix", userfile.Expand(socket))
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(agentTimeout))
	// Without its Close the client asks one thing after another, and starts no goroutine.
	found, err := agent.NewClient(struct{ io.ReadWriter }{c}).Signers()
	if err == nil && len(found) == 0 {
		err = errors.New("it holds no keys")
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	closer = func() { stop(); _ = c.Close() }
	if err != nil {
		closer()
		return nil, nil, err
	}
	for _, s := range found[:min(len(found), maxAgentKeys)] {
		if by, ok := s.(ssh.AlgorithmSigner); ok { // as all of the package's are
			keys = append(keys, agentKey{by, c, refused})
		}
	}
	return keys, closer, nil
}
