// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

const (
	agentTimeout = time.Second      // to say which keys it holds
	signTimeout  = 20 * time.Second // twice what a handshake may take: an agent may wait for its owner's finger
	maxAgentKeys = 100              // that are looked at
)

// agentKey is a key of an agent that notes why the agent did not sign with it: ssh-add -c asks its owner, a security key wants
// a finger.
type agentKey struct {
	ssh.AlgorithmSigner
	refused func(error)
}

func (a agentKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return a.SignWithAlgorithm(rand, data, "")
}

func (a agentKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signature, err := a.AlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
	if err != nil {
		a.refused(err)
	}
	return signature, err
}

// agentKeys asks the ssh-agent at a socket for its keys. The connection is there for the signing
// and ends with close: a forked child, or a server, must not find it open afterwards.
func agentKeys(ctx context.Context, socket string) (keys []ssh.Signer, closer func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", userfile.Expand(socket))
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	// Without its Close the client asks one thing after another, and starts no goroutine.
	keys, err = agent.NewClient(struct{ io.ReadWriter }{c}).Signers()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("it holds no keys")
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(signTimeout))
	return keys[:min(len(keys), maxAgentKeys)], func() { _ = c.Close() }, nil
}
