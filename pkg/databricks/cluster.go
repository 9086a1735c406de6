// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"regexp"
	"strings"

	"github.com/databricks/databricks-sdk-go/service/compute"
	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Cluster is what a workspace knows of the machines that a notebook runs on.
type Cluster struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is "running", "pending", "restarting", "resizing", "terminating", "terminated", …
	State string `json:"state"`
	// AccessMode is "dedicated", "standard", "none" (no isolation), "legacy"; "" where the workspace
	// does not tell.
	AccessMode string `json:"access_mode"`
	// Autotermination is after how many minutes without a command it stops. 0: it does not.
	Autotermination int `json:"autotermination_minutes"`
}

var clusterID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// Cluster tells of one cluster.
func (w *Workspace) Cluster(ctx context.Context, id string) (Cluster, error) {
	if !clusterID.MatchString(id) {
		return Cluster{}, fault.Config("", "%s is not the id of a cluster", fault.Quote(id))
	}
	unknown := func(said string) *fault.Error { return fault.NoCluster(id, said) }
	words := refusals{sent: []string{id}, missing: unknown, forbidden: unknown, bad: unknown}
	c, err := ask(ctx, w, words, func(ctx context.Context) (*compute.ClusterDetails, error) {
		return compute.NewClusters(w.client).GetByClusterId(ctx, id)
	})
	if err != nil {
		return Cluster{}, err
	}
	if c.ClusterId != id {
		return Cluster{}, fault.NotWorkspace(w.name, "something that is not a cluster")
	}
	return Cluster{
		ID: id, Name: c.ClusterName, State: strings.ToLower(string(c.State)),
		AccessMode: accessMode(c.DataSecurityMode, c.SingleUserName), Autotermination: c.AutoterminationMinutes,
	}, nil
}

// accessMode gives the names of today's user interface.
func accessMode(mode compute.DataSecurityMode, user string) string {
	switch mode {
	case compute.DataSecurityModeDataSecurityModeDedicated, compute.DataSecurityModeSingleUser,
		compute.DataSecurityModeLegacySingleUser, compute.DataSecurityModeLegacySingleUserStandard:
		return "dedicated"
	case compute.DataSecurityModeDataSecurityModeStandard, compute.DataSecurityModeUserIsolation:
		return "standard"
	case compute.DataSecurityModeNone:
		return "none"
	case compute.DataSecurityModeLegacyTableAcl, compute.DataSecurityModeLegacyPassthrough:
		return "legacy"
	}
	if user != "" { // the workspace chose, for one user
		return "dedicated"
	}
	return ""
}

// User is whom the token stands for.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"` // an e-mail address, or a service principal's application id
}

// Me tells who asks.
func (w *Workspace) Me(ctx context.Context) (User, error) {
	u, err := ask(ctx, w, refusals{}, func(ctx context.Context) (*iam.User, error) {
		return iam.NewCurrentUser(w.client).Me(ctx, iam.MeRequest{})
	})
	if err != nil {
		return User{}, err
	}
	if u.UserName == "" {
		return User{}, fault.NotWorkspace(w.name, "something that is not a user")
	}
	return User{ID: u.Id, Name: u.UserName}, nil
}
