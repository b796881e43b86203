#ifndef ESPALIER_NETLINK_H
#define ESPALIER_NETLINK_H

#include "espalier.h"

napi_value netlink_open(napi_env env, napi_callback_info info);
napi_value netlink_send(napi_env env, napi_callback_info info);
napi_value netlink_receive(napi_env env, napi_callback_info info);
napi_value netlink_port(napi_env env, napi_callback_info info);
napi_value netlink_close(napi_env env, napi_callback_info info);

#endif
