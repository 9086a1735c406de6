// SPDX-License-Identifier: Apache-2.0

package gate

import "net/http"

const requestID = "X-Taipy-Tunnel-Request"

type once struct{ http.Handler }

func newOnce(next http.Handler, _ func(func()) bool) *once { return &once{next} }
func (o *once) close()                                     {}
