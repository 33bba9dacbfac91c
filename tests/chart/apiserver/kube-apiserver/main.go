// Kubernetes' own kube-apiserver, as cmd/kube-apiserver starts it.
package main

import (
	"os"
	_ "time/tzdata" // zones of CronJobs

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
