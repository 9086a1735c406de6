// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"context"
	"os"
	"slices"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshconfig"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// SSH says how to log in to the destination, and to the machines on the way to it. It reads keys and host
// keys, each time.
func (d *Destination) SSH() (sshlink.Config, error) {
	cfg := d.cfg
	ssh, err := cfg.machine(*d, cfg.HostKey)
	if err != nil {
		return sshlink.Config{}, err
	}
	onTheWay := cfg.HostKey
	if ssh.HostKeys.Pins() != nil {
		onTheWay = "" // a bastion with a fingerprint of its own could pass itself off as the server
	}
	at := &ssh
	for _, jump := range slices.Backward(d.jumps) {
		hop, err := cfg.machine(jump, onTheWay)
		if err != nil {
			return sshlink.Config{}, err
		}
		at.Jump = &hop
		at = &hop
	}
	at.Via = d.via
	return ssh, nil
}

// machine says how to log in to one machine.
func (cfg *Config) machine(d Destination, hostKey string) (sshlink.Config, error) {
	keys, err := sshauth.NewKeys(context.Background(), sshauth.KeySource{Key: cfg.Key, Passphrase: cfg.KeyPassphrase,
		Agent: cfg.agent(d.ssh), Files: d.ssh.IdentityFiles, Certificates: d.ssh.Certificates, IdentitiesOnly: d.ssh.IdentitiesOnly, Log: cfg.Log})
	if err != nil {
		return sshlink.Config{}, err
	}
	known, err := hostkeys.New(hostKey, d.ssh.KnownHosts...)
	if err != nil {
		return sshlink.Config{}, err
	}
	return sshlink.Config{Host: d.Host, Port: d.Port, User: d.User, Keys: keys, HostKeys: known, HostKeyAlias: d.ssh.HostKeyAlias, TLS: d.tls,
		Log: cfg.Log, Control: cfg.Control}, nil
}

// agent returns the socket of the ssh-agent, "" for none.
func (cfg *Config) agent(h sshconfig.Host) string {
	socket := cfg.Agent
	if h.IdentityAgent != "" {
		socket = h.IdentityAgent
	} else if socket == "" {
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	if socket == "none" {
		return ""
	}
	return socket
}
