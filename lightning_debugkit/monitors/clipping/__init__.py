"""What GradientClippingMonitor is made of: hearing, measuring, judging."""
