# METADATA
# title: Orders, of which the large ones need a grant
# custom:
#   title_zh: 订单，大额需授权
#   scope: {actions: ["order.*"]}
#   audit: buffered
package xiezhi.platform.orders

# METADATA
# title: Large orders need a review
# custom:
#   id: large
#   title_zh: 大额订单需审批
#   message: {en: "More than 1000 needs a review.", zh: "超过 1000 需审批。"}
#   severity: high
#   requirement: [X7]
review contains {"rule": "large"} if input.resource.properties.amount > 1000
