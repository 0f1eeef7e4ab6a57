#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_kinds_info
short_description: Reads objects of several kinds from Kubernetes at once
version_added: 0.1.0
author:
  - The kubegpu.nvidia authors (@kubegpu)
description:
  - Does what M(kubernetes.core.k8s_info) does, for a list of kinds. A loop over that module starts a process for each
    kind, which takes most of its time to load the client and to find the API; this module does it once.
  - Every kind is asked for, also after one that could not be read, so that all that is wrong is known. The module fails
    if there is such a kind, and returns the others nevertheless.
  - Of each object only what O(queries[].query) names is returned. What else is in it, such as the environment of other
    people's pods, gets into no variable and no log.
options:
  queries:
    description: What to read. Each gets an answer, in the same order.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: The kind of the objects.
        type: str
        required: true
      api_version:
        description: The group and version of the API that has them.
        type: str
        default: v1
      name:
        description: The name of the one object that is wanted.
        type: str
      namespace:
        description: The namespace of the objects; all namespaces if it is not given.
        type: str
      label_selectors:
        description: Labels that the objects have.
        type: list
        elements: str
        default: []
      field_selectors:
        description: Values of fields that the objects have.
        type: list
        elements: str
        default: []
      query:
        description:
          - A JMESPath expression that says what of each object is returned; V(@) is all of it.
          - Keys that get no value are left out, and so is an object of which the expression finds nothing.
          - Beside JMESPath's own functions there is C(matching(value, 'regular expression')), which ignores case. Of an
            object such as C(metadata.annotations) it returns the members whose key matches; of a list of strings, the
            parts of them that match.
        type: str
        required: true
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - kubernetes.core.k8s_auth_options
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The module changes nothing.
  platform:
    platforms: posix
requirements:
  - jmespath >= 1.0.0 (Python)
  - kubernetes >= 24.2.0 (Python)
  - PyYAML >= 3.11
notes:
  - It belongs to the action group C(kubegpu.nvidia.k8s), which has the modules of C(kubernetes.core.k8s) as well.
seealso:
  - module: kubernetes.core.k8s_info
"""

EXAMPLES = r"""
- name: Read nodes and what runs on one of them
  kubegpu.nvidia.k8s_kinds_info:
    kubeconfig: /etc/kubernetes/admin.conf
    queries:
      - kind: Node
        query: "{name: metadata.name, gpus: matching(metadata.labels, '^nvidia[.]com/')}"
      - kind: Pod
        field_selectors: [spec.nodeName=gpu-1]
        query: "{metadata: metadata.{namespace: namespace, name: name}, status: {phase: status.phase}}"
      - kind: DaemonSet
        api_version: apps/v1
        namespace: kube-system
        query: metadata.name
  delegate_to: localhost
  register: found

- name: Name the pods
  ansible.builtin.debug:
    msg: "{{ found.answers[1].resources | map(attribute='metadata.name') }}"
"""

RETURN = r"""
answers:
  description: One for each query.
  returned: always, unless the API could not be reached at all
  type: list
  elements: dict
  contains:
    item:
      description: The query, without the expression.
      returned: always
      type: dict
    resources:
      description: What the expression has found in each of the objects.
      returned: if they could be read
      type: list
      elements: raw
    api_found:
      description: Whether the cluster has this kind in this version of the API.
      returned: if they could be read
      type: bool
    msg:
      description: Why they could not be read, or that the API is not there.
      returned: if so
      type: str
"""

import copy
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.cutting import QueryError, cutter
from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.reading import read_all
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import get_api_client
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.core import AnsibleK8SModule
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.exceptions import CoreException
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.service import K8sService

QUERY = {
    "kind": {"type": "str", "required": True},
    "api_version": {"type": "str", "default": "v1"},
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "label_selectors": {"type": "list", "elements": "str", "default": []},
    "field_selectors": {"type": "list", "elements": "str", "default": []},
    "query": {"type": "str", "required": True},
}


def main():
    spec = copy.deepcopy(AUTH_ARG_SPEC)
    spec["queries"] = {"type": "list", "elements": "dict", "required": True, "options": QUERY}
    module = AnsibleK8SModule(module_class=AnsibleModule, argument_spec=spec, supports_check_mode=True)
    queries = []
    for query in module.params["queries"]:
        try:
            cut = cutter(query["query"])
        except ImportError:
            module.fail_json(msg=missing_required_lib("jmespath"), exception=traceback.format_exc())
        except QueryError as error:
            module.fail_json(msg="the query for the kind %s is %s" % (query["kind"], error))
        queries.append(({key: value for key, value in query.items() if key != "query"}, cut))
    try:
        service = K8sService(get_api_client(module), module)
    except CoreException as error:
        module.fail_from_exception(error)
    except Exception as error:  # the client lets through what its HTTP library raises
        module.fail_json(msg=str(error) or type(error).__name__)
    answers, problem = read_all(service.find, queries)
    if problem:
        module.fail_json(msg=problem, answers=answers)
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
