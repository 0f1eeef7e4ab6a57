// Reads Kubernetes objects as JSON and says of each whether today's API types have all of its fields.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
)

func main() {
	scheme := runtime.NewScheme()
	adders := []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, nodev1.AddToScheme, rbacv1.AddToScheme,
	}
	for _, add := range adders {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	options := serializer.SerializerOptions{Strict: true}
	strict := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, options)
	objects := json.NewDecoder(os.Stdin)
	for {
		var object json.RawMessage
		if err := objects.Decode(&object); err == io.EOF {
			return
		} else if err != nil {
			panic(err)
		}
		_, kind, err := strict.Decode(object, nil, nil)
		if err != nil {
			fmt.Printf("%v: %v\n", kind, err)
		} else {
			fmt.Printf("%s: ok\n", kind.Kind)
		}
	}
}
